"""What processes counted of a trial: one sum, which stays when their objects go."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tiny import tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.counts import ClassCount, Counts, CountsStore
from breadcrumbs.serving.trials.log import TrialLog
from breadcrumbs.serving.trials.trial import End, Start
from breadcrumbs.serving.upkeep import collect, verify

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def start(number: int, previous: str | None) -> Start:
    """A trial's start."""
    return Start(
        number=number, head=2, digest="", against=1, against_digest="", mode="shadow", until="2100-01-01T00:00:00Z",
        stop_if=StopIf(), activation=1, actor="", reason="", at=NOW.isoformat(), previous=previous,
    )  # fmt: skip


def end(number: int, previous: str | None) -> End:
    """The end of trial 1."""
    return End(
        number=number, trial=1, outcome="ended", actor="", reason="", at=NOW.isoformat(), previous=previous
    )  # fmt: skip


@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_the_sum_stays_when_a_trial_has_long_ended(tmp_path: Path, classes: int) -> None:
    """`store gc` makes it one object; a second time, and a process that comes late, change nothing."""

    async def main() -> None:
        store = Store.open(tmp_path)
        log, processes = TrialLog(store), [CountsStore(store) for _ in range(3)]
        for trial in (1, 2):
            await log.append(start)
            for place, one in enumerate(processes):
                names = [f"{'n' * 55}{index}" for index in range(classes)]
                counted = {name: ClassCount(compared=place + 2, disagreed=place) for name in names}
                await one.write(trial, Counts(answered={1: place + 1}, classes=counted, errors=1, placed=4, unknown=2))
        await log.append(end)
        before, running = await processes[0].read(1), await processes[0].read(2)
        soon = await collect(store, Retention(), settle=0, now=NOW + timedelta(minutes=59))
        later = [
            await collect(store, Retention(), dry=dry, settle=0, now=NOW + timedelta(minutes=61))
            for dry in (True, False, False)
        ]
        await processes[1].write(1, Counts(errors=100))

        assert before.compared == classes * 9
        assert (soon, [len(one) for one in later]) == ([], [3, 3, 0])
        assert (await processes[2].read(1), await processes[2].read(2)) == (before, running)
        assert "trial-counts/00000001/all.json" in await store.names("trial-counts/00000001")
        assert len(await store.names("trial-counts/00000002")) == 3

    asyncio.run(main())


def test_heads_of_a_running_trial_stay(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """However old they are; when it has ended they go. Damage of its log is found."""

    async def main() -> list[str]:
        store, late = Store.open(tmp_path), datetime.now(UTC) + timedelta(days=365)
        for seed in range(3):
            await heads.add(store, tiny_head(seed), tiny_bundle, Lineage(), {})
        log, policy = TrialLog(store), Retention(keep_heads=1)
        await log.append(start)
        kept = await collect(store, policy, settle=0, now=late)
        await log.append(end)
        gone = await collect(store, policy, settle=0, now=late)
        (tmp_path / "trials/00000002.json").write_bytes(b"{")

        assert kept == []
        assert {item.name.split("/")[1] for item in gone} == {"000001", "000002"}
        return [one.text for one in (await verify(store)).findings]

    assert "trials/00000002.json is damaged" in asyncio.run(main())[0]
