"""Lines in the store: their logs, their heads in memory, other servers, damage, and what a cleanup keeps."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import SIDE, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.predict.engine import Engine
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state import live_head as lives
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.bound_heads import BoundHeads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.line_names import check_name
from breadcrumbs.serving.state.lines import Lines
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Conflict, NotFound, Store
from breadcrumbs.serving.upkeep import collect, verify

LONG = "Lab_7." + "x" * 54


async def opened(folder: Path, bundle: Bundle, more: int = 0, most: int = 1000) -> tuple[Store, Lines]:
    """A server's lines on a store with the bundle's head live and `more` others."""
    store = Store.open(folder)
    log = Log(store)
    activation = await lives.first(store, bundle, log)
    for seed in range(more):
        await heads.add(store, tiny_head(10 + seed), bundle, Lineage(parent=1), {})
    _, head = await heads.read(store, activation.head)
    engine = Engine(bundle.backbone, head, activation.head, (SIDE, SIDE), "cpu", 1)
    bound = BoundHeads(store, bundle, engine)
    lines = Lines(bound, Live(bound, log, activation, engine.live, engine.swap), most)
    await lines.open()
    return store, lines


def live(lines: Lines) -> dict[str, int]:
    """The live head of each line."""
    return {one.line: one.head.version for one in lines.all}


def test_a_line_has_a_log_and_a_way_back_of_its_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Going live and rolling back in one line changes no other; the default log stays where it was."""

    async def main() -> None:
        store, lines = await opened(tmp_path, tiny_bundle, 2)
        a, b = await lines.create("a", 2, "api", ""), await lines.create(LONG, None, "api", "")
        await a.activate(3, "api", "")
        assert live(lines) == {"default": 1, LONG: 1, "a": 3}

        assert (await a.rollback("api", "")).head == 2
        with pytest.raises(Conflict, match="no head to go back to"):
            await a.rollback("api", "")
        with pytest.raises(Conflict, match="no head to go back to"):
            await b.rollback("api", "")
        assert [one.kind for one in await a.log()] == ["create", "activate", "rollback"]
        assert await store.names("activations") == ["activations/00000001.json"]
        assert len(await store.names("lines/a/activations")) == 3
        _, again = await opened(tmp_path, tiny_bundle)
        assert live(again) == live(lines)

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 100])
def test_a_head_is_in_memory_once_however_many_lines_have_it_live(
    tiny_bundle: Bundle, tmp_path: Path, count: int
) -> None:
    """After a start too; a line that moves on has the other head, and the rest keeps theirs."""

    async def main() -> None:
        _, lines = await opened(tmp_path, tiny_bundle, 1)
        for number in range(count):
            await lines.create(f"line-{number}", 2, "api", "")
        _, again = await opened(tmp_path, tiny_bundle)

        for known in (lines, again):
            assert len(known) == count + 1
            assert len({id(one.head) for one in known.all[1:]}) == 1
        await (await again.find("line-0")).activate(1, "api", "")
        assert (await again.find("line-0")).head is again.default.head

    asyncio.run(main())


def test_servers_follow_every_line_of_a_store(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A new line is found at once; a swap, a removal and a line that begins again come with the next look."""

    async def main() -> None:
        store, one = await opened(tmp_path, tiny_bundle, 2)
        _, other = await opened(tmp_path, tiny_bundle)
        line = await one.create("a", 2, "api", "")
        assert (await other.find("a")).head.version == 2

        await line.activate(3, "api", "")
        await other.open()
        assert live(other) == {"default": 1, "a": 3}

        await one.remove("a", "api", "")
        await other.open()
        for known in (one, other):
            assert live(known) == {"default": 1}
            with pytest.raises(NotFound, match="there is no line 'a'"):
                await known.find("a")
        with pytest.raises(NotFound, match="the line was removed, by api"):
            await line.activate(2, "api", "")

        await other.create("a", 1, "api", "again")
        await one.open()
        assert live(one) == {"default": 1, "a": 1}
        again = await one.find("a")
        assert [record.kind for record in await again.log()] == ["create", "activate", "remove", "create"]
        with pytest.raises(Conflict, match="no head to go back to"):
            await again.rollback("api", "")
        assert (await verify(store)).sound

    asyncio.run(main())


def test_of_servers_that_create_a_line_at_once_one_wins(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The others are refused, and its log has one record."""

    async def main() -> None:
        servers = [(await opened(tmp_path, tiny_bundle, 1 if number == 0 else 0))[1] for number in range(3)]
        made = await asyncio.gather(
            *(one.create("a", 2, f"key {number}", "") for number, one in enumerate(servers)), return_exceptions=True
        )

        assert sum(isinstance(one, Live) for one in made) == 1
        assert sum(isinstance(one, Conflict) for one in made) == 2
        assert len(await (await servers[0].find("a")).log()) == 1

    asyncio.run(main())


def test_lines_have_a_limit(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The sentence names it; a line that was removed makes room."""

    async def main() -> None:
        _, lines = await opened(tmp_path, tiny_bundle, most=1)
        await lines.create("a", None, "api", "")
        with pytest.raises(Conflict, match=r"there are 1 lines; the limit is 1 \(max_lines\)"):
            await lines.create("b", None, "api", "")
        await lines.remove("a", "api", "")
        await lines.create("b", None, "api", "")

        assert live(lines) == {"default": 1, "b": 1}

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["head", "record"])
def test_a_damaged_head_of_a_line_gives_way_at_start_and_harms_no_other_line(
    tiny_bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    """The head before it is live again in that line, and its log says why."""

    async def main() -> None:
        _, lines = await opened(tmp_path, tiny_bundle, 2)
        await (await lines.create("a", 2, "api", "")).activate(3, "api", "")
        await lines.create("b", 2, "api", "")
        broken = "heads/000003/head.safetensors" if damage == "head" else "lines/a/activations/00000002.json"
        (tmp_path / broken).write_bytes(b"{}")
        _, again = await opened(tmp_path, tiny_bundle)

        assert live(again) == {"default": 1, "a": 2, "b": 2}
        newest = (await again.find("a")).activation
        assert newest.actor == "server"
        assert "is damaged" in newest.reason

    asyncio.run(main())


def test_a_cleanup_keeps_what_any_line_has_live(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Not what only a removed line had; head 4 is the newest."""

    async def main() -> None:
        store, lines = await opened(tmp_path, tiny_bundle, 3)
        await lines.create("a", 2, "api", "")
        await lines.create("b", 3, "api", "")
        await lines.remove("b", "api", "")
        gone = await collect(store, Retention(keep_heads=1, parents=0, days=0), settle=0)

        assert {item.name.split("/")[1] for item in gone if item.name.startswith("heads/")} == {"000003"}
        assert (await verify(store)).activations == 4
        _, again = await opened(tmp_path, tiny_bundle)
        assert live(again) == {"default": 1, "a": 2}

    asyncio.run(main())


@given(st.text(max_size=70))
def test_a_name_is_taken_or_refused_in_one_printable_sentence(name: str) -> None:
    """Whatever it is; what is taken can be a folder and a part of an address."""
    said = ""
    try:
        taken = check_name(name) == name
    except BadRequest as error:
        taken, said = False, str(error)

    assert taken or (said.isprintable() and "expected letters, digits" in said)
    assert not taken or (name.isascii() and 0 < len(name) <= 60 and name[0] not in "._-")
    assert not taken or not set(name) & set('/@?#%\\ \n"')
