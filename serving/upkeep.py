"""Maintenance of a store: is everything in it undamaged, and what can be removed.

`verify` reads every byte and changes nothing. `collect` removes what the policy does not keep, in an order that is safe
while servers run: first the marks that make things visible; then it checks that nothing began to use them meanwhile,
and removes the rest. It knows nothing of engines or HTTP.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from pydantic import ValidationError

from breadcrumbs.models import refit_report
from breadcrumbs.serving.refits import examples, job
from breadcrumbs.serving.refits.job import ENDED
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import heads, lines, segment_file, snapshot_deletion
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.owners import sweep
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord
from breadcrumbs.serving.state.store import Item, NotFound, Store, StoreError
from breadcrumbs.serving.trials import counts
from breadcrumbs.serving.trials.log import TrialLog
from breadcrumbs.training.terminal.bars import Told, silent

SETTLE = 2.0
"""Seconds between removing marks and checking whether something began to use them."""
THINGS = ("heads/", "snapshots/", "holds/", "refits/", "pairs/")
"""Prefixes of the objects that the policy is about."""
SEGMENTS = ("answers/", "examples/", "indexes/")
"""Prefixes of the objects that have many records each."""
PAIRED = ".new.safetensors"
"""How the second file of some pairs ends; it is written last, and goes first."""
UNDER_WAY = timedelta(hours=1)
"""Younger objects may belong to a write in progress."""


@dataclass(frozen=True)
class Finding:
    """A defect of the store: something `damaged`, or a `leftover` of a killed writer."""

    name: str
    kind: Literal["damaged", "leftover"]
    text: str


@dataclass(frozen=True)
class Verified:
    """What `verify` read, and what it found."""

    heads: int
    snapshots: int
    refits: int
    activations: int
    size: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return all(finding.kind != "damaged" for finding in self.findings)


async def verify(store: Store, told: Told = silent) -> Verified:
    """Read everything in a store and compare it with its digests; `told` is called with the progress."""
    items = {item.name: item for item in await store.items()}
    count, findings = 0, list[Finding]()
    for log in (await lines.logs(store)).values():
        records = await log.readable()
        count += len(records)
        findings += [Finding(log.folder, "damaged", defect) for defect in log.defects]
        findings += await _verify_live(store, log.folder, records)
    findings += [Finding("trials", "damaged", defect) for defect in (await _trials(store)).defects]
    versions = sorted({heads.version_of(name) for name in items if heads.version_of(name)})
    names = sorted({name.partition(".")[0] for name in items if name.startswith("snapshots/")})
    jobs = sorted({name.split("/")[1] for name in items if name.startswith("refits/")})
    checks = [partial(_verify_head, store, version, items) for version in versions]
    checks += [partial(_verify_snapshot, store, name, items) for name in names]
    checks += [partial(_verify_refit, store, one, items) for one in jobs]
    checks += [partial(_verify_segment, store, name) for name in items if name.startswith(SEGMENTS)]
    for done, check in enumerate(checks, 1):
        findings += await check()
        told(done, len(checks))
    half = "half-written by a writer that was killed"
    findings += [Finding(path.name, "leftover", half) for path in store.leftovers()]
    size = sum(item.size for item in items.values())
    return Verified(len(versions), len(names), len(jobs), count, size, tuple(findings))


async def _verify_live(store: Store, name: str, records: list[Activation]) -> list[Finding]:
    """Compare the newest activation with the head that it names; the head itself is verified later."""
    if not records or records[-1].kind == "remove":
        return []
    live = records[-1]
    try:
        digest = (await heads.record(store, live.head)).digest
    except NotFound:
        return [Finding(heads.folder(live.head), "damaged", "the log says that it is live; it is not there")]
    except StoreError:
        return []
    if digest != live.digest:
        return [Finding(name, "damaged", f"{live.number} is of digest {live.digest}; its head has {digest}")]
    return []


async def _verify_head(store: Store, version: int, items: dict[str, Item]) -> list[Finding]:
    name = heads.folder(version)
    if f"{name}/head.json" not in items:
        return [Finding(name, "leftover", "a number that was claimed, and no head.json: it was never complete")]
    try:
        await heads.read(store, version)
        await heads.read_onnx(store, version)
        await heads.read_known(store, version)
    except StoreError as error:
        return [Finding(name, "damaged", str(error))]
    return []


async def _verify_snapshot(store: Store, name: str, items: dict[str, Item]) -> list[Finding]:
    sha = name.rpartition("/")[2]
    if f"{name}.json" not in items:
        return [Finding(name, "leftover", "a file without its record: it was never complete")]
    try:
        if SnapshotRecord.model_validate_json(await store.get(f"{name}.json")).sha256 != sha:
            return [Finding(name, "damaged", "its record is another's")]
        found = await store.sha256(f"{name}.safetensors")
    except (StoreError, ValidationError) as error:
        return [Finding(name, "damaged", str(error))]
    return [] if found == sha else [Finding(name, "damaged", f"its bytes have sha256 {found}")]


async def _verify_refit(store: Store, one: str, items: dict[str, Item]) -> list[Finding]:
    name = f"refits/{one}"
    if f"{name}/request.json" not in items:
        return [Finding(name, "leftover", "parts of a refit without its request")]
    try:
        await job.read(store, one)
        await examples.noted(store, one)
        if f"{name}/judged.json" in items:
            refit_report.Judged.model_validate_json(await store.get(f"{name}/judged.json"))
        if f"{name}/report.json" in items:
            refit_report.STORED.validate_json(await store.get(f"{name}/report.json"))
    except (StoreError, ValidationError) as error:
        return [Finding(name, "damaged", str(error))]
    return []


async def _verify_segment(store: Store, name: str) -> list[Finding]:
    try:
        segment_file.decode(name, await store.get(name))
    except NotFound:  # it was merged meanwhile
        return []
    except StoreError as error:
        return [Finding(name, "damaged", str(error))]
    return []


async def collect(
    store: Store, retention: Retention, *, dry: bool = False, settle: float = SETTLE, now: datetime | None = None,
    told: Told = silent,
) -> list[Item]:  # fmt: skip
    """Remove what the policy does not keep, and return what was removed.

    Args:
        store: a server may be using it.
        retention: the policy.
        dry: only return what would be removed.
        settle: seconds to wait before checking what is in use.
        now: the time.
        told: called with the progress.

    Raises:
        StoreError: the log is damaged, or the store cannot be read or written. Nothing visible is lost then.
    """
    now = now or datetime.now(UTC)
    gone = await _plan(store, retention, now)
    ended = [end.trial for end in (await _trials(store)).ends.values() if _before(end.at, now - UNDER_WAY)]
    counted = [item for trial in ended for item in await counts.unsettled(store, trial)]
    if dry:
        return _told([*gone, *counted])
    known, marks = {item.name for item in gone}, dict[str, str]()
    taken = {_owner(name) for name in known if _is_mark(name)}
    try:
        for name in filter(_is_mark, known):
            marks[name] = f"gone/marks/{secrets.token_hex(8)}"
            with contextlib.suppress(NotFound):  # it was deleted meanwhile
                await store.move(name, marks[name])
        await asyncio.sleep(settle if marks else 0)
        needed, _ = await _needed(store, retention, await _records(store, marks))
        written = await store.names("")  # a mark that is back, or a new hold: the same snapshot was uploaded again
        again = {_owner(name) for name in written if name in marks or (name.startswith("holds/") and name not in known)}
        taken &= needed | again
    finally:  # whatever happens, what is kept becomes visible again
        for name in [name for name in marks if _owner(name) in taken]:
            await snapshot_deletion.put_back(store, marks.pop(name), name)
    for trial in ended:
        await counts.settle(store, trial)
    removed = await _remove(store, [item for item in gone if _owner(item.name) not in taken], marks, now, told)
    return [*removed, *counted]


async def _trials(store: Store) -> TrialLog:
    log = TrialLog(store)
    await log.read()
    return log


def _before(at: str, time: datetime) -> bool:
    """Whether ISO 8601 `at` is before a time."""
    return datetime.fromisoformat(at) < time


async def _remove(store: Store, gone: list[Item], marks: dict[str, str], now: datetime, told: Told) -> list[Item]:
    """Delete what is invisible, and what belongs to nothing; return what was removed."""
    known, kept = {item.name for item in gone}, set[str]()
    for done, item in enumerate(gone, 1):
        owner = _owner(item.name)
        if item.name.startswith("snapshots/") and item.name.endswith(".safetensors"):
            mark = marks.pop(f"{owner}.json", None)
            if not await snapshot_deletion.drop(store, owner.rpartition("/")[2], mark, known):
                kept.add(owner)
        elif not _is_mark(item.name):
            await store.delete(item.name)
        told(done, len(gone))
    for aside in marks.values():
        await store.delete(aside)
    await snapshot_deletion.recover(store, now - UNDER_WAY)
    for path in store.leftovers():
        with contextlib.suppress(FileNotFoundError):  # the writer has finished and renamed it
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < now - UNDER_WAY:
                path.unlink()
    await sweep(store)
    await asyncio.to_thread(store.prune)
    return _told(item for item in gone if _owner(item.name) not in kept)


def _told(items: Iterable[Item]) -> list[Item]:
    """Return what is reported: everything but holds, which are empty."""
    return [item for item in items if not item.name.startswith("holds/")]


def _is_mark(name: str) -> bool:
    """Whether an object is a mark, which makes a head, snapshot or refit visible."""
    return name.endswith(("/head.json", "/request.json")) or (name.startswith("snapshots/") and name.endswith(".json"))


def _owner(name: str) -> str:
    """Return what an object belongs to: `heads/000001`, `snapshots/<sha>`, `refits/<id>`, `pairs/…/<stem>`."""
    if name.startswith("holds/"):
        return f"snapshots/{name.split('/')[1]}"
    if name.startswith("pairs/"):
        return name.partition(".")[0]
    return name.partition(".")[0] if name.startswith("snapshots/") else "/".join(name.split("/")[:2])


async def _records(store: Store, marks: dict[str, str]) -> dict[int, HeadRecord]:
    """Return the records of all heads, including those just made invisible."""
    found = {record.version: record for record in await heads.records(store)}
    asides = await store.get_all(aside for name, aside in marks.items() if name.endswith("/head.json"))
    hidden = map(HeadRecord.model_validate_json, asides.values())
    return found | {record.version: record for record in hidden}


async def _needed(store: Store, retention: Retention, records: dict[int, HeadRecord]) -> tuple[set[str], set[str]]:
    """Return what must stay, and what may go only if the store is too large."""
    versions = set[int]()
    for log in (await lines.logs(store)).values():
        for live in [record for record in (await log.read())[-1:] if record.kind != "remove"]:
            versions.add(live.head)
            if (known := records.get(live.head)) and known.digest != live.digest:
                raise StoreError(f"activation {live.number} is of digest {live.digest}; its head has {known.digest}")
    parents = set(versions)
    for _ in range(retention.parents):
        parents = {record.lineage.parent or 0 for version in parents if (record := records.get(version))}
        versions |= parents
    newest = set(sorted(records, reverse=True)[: retention.keep_heads])
    tried = {version for start in (await _trials(store)).running for version in (start.head, start.against)}
    needed = {heads.folder(version) for version in versions | tried if version}
    for name in await store.names("refits"):
        if name.endswith("/request.json"):
            try:
                history = await job.read(store, name.split("/")[1])
            except StoreError:
                continue
            if history.job.state not in ENDED:
                asked = history.job.request
                wanted = {f"snapshots/{sha}" for sha in (*asked.snapshots, asked.holdout) if sha}
                needed |= {f"refits/{history.job.id}"} | wanted
    wished = {heads.folder(version) for version in newest}
    for version in versions | newest:
        if record := records.get(version):
            lineage = record.lineage
            wished |= {f"snapshots/{sha}" for sha in (*lineage.snapshots, lineage.holdout) if sha}
            wished |= {f"refits/{lineage.refit}"} if lineage.refit else set()
    return needed, wished


async def _plan(store: Store, retention: Retention, now: datetime) -> list[Item]:
    """Return what is removed, the oldest first, marks before the rest."""
    items = [item for item in await store.items() if item.name.startswith(THINGS)]
    things: dict[str, list[Item]] = {}
    for item in items:
        things.setdefault(_owner(item.name), []).append(item)
    needed, wished = await _needed(store, retention, await _records(store, {}))
    size = sum(item.size for parts in things.values() for item in parts)
    newest = {name: max(item.written for item in parts) for name, parts in things.items()}
    gone: list[Item] = []
    for name in sorted(things, key=lambda name: newest[name]):
        age, parts = now - newest[name], things[name]
        complete = any(_is_mark(item.name) or item.name.endswith(PAIRED) for item in parts)
        if name in needed or (age < UNDER_WAY and not complete):
            continue
        expired = age > timedelta(days=retention.days) and name not in wished
        crowded = retention.max_bytes and size > retention.max_bytes
        if expired or crowded or not complete:
            gone += sorted(parts, key=lambda item: not (_is_mark(item.name) or item.name.endswith(PAIRED)))
            size -= sum(item.size for item in parts)
    return gone
