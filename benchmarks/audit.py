"""What users were told, held against the store: answers, and writes that the server acknowledged.

Of an answer every number is computed again from the head that it names, as the store has it. An answer of a line must
name a head that was live there. It knows nothing of how the server was treated.
"""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from breadcrumbs import models
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.head import softmax
from breadcrumbs.models.images.preprocess import load
from breadcrumbs.serving.learning.answer import from_record
from breadcrumbs.serving.learning.answers import PREFIX as ANSWERS
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.lines import folder, logs
from breadcrumbs.serving.state.segments import Segments
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.log import TrialLog

BUNDLE = Path(models.__file__).parent / "demo"


class Answer(NamedTuple):
    """What a line said of a photo: the head, the probabilities by class, the answer's id or nothing."""

    line: str
    version: int
    classes: dict[int, float]
    id: str


class Row(NamedTuple):
    """One request: when it was answered, its photo, what each line said; or what went wrong."""

    at: float
    photo: int
    answers: tuple[Answer, ...] = ()
    failure: str = ""


class Acknowledged(NamedTuple):
    """What the server said it had written. Activations are by line and number; `cut` has those that were damaged."""

    snapshots: set[str]
    jobs: set[str]
    activations: dict[tuple[str, int], int]
    cut: dict[tuple[str, int], int]
    labels: dict[str, str]
    answers: set[str]
    trials: dict[int, int]


def told(rows: Iterable[Row]) -> list[Answer]:
    """Return all answers."""
    return [answer for row in rows for answer in row.answers]


def wrong(rows: list[Row], photos: list[bytes], store: Path, damaged: set[int]) -> int:
    """How many answers are not what the head that they name says; a damaged head was sound when it answered."""
    bundle = bundles.read(BUNDLE)
    images = np.stack([load(photo, bundle.preprocess) for photo in photos])
    features = ort.InferenceSession(bundle.backbone(), providers=["CPUExecutionProvider"]).run(None, {"image": images})[
        0
    ]
    known: dict[int, np.ndarray] = {}
    for version in {answer.version for answer in told(rows)}:
        path = store / heads.folder(version) / "head.safetensors"
        if version in damaged:
            data = bytearray(path.read_bytes())
            data[-5] ^= 1
            path.write_bytes(data)
        _, head = asyncio.run(heads.read(Store.open(store), version))
        known[version] = softmax(head.logits(features))
    return sum(
        any(abs(known[answer.version][row.photo][index] - value) > 1e-3 for index, value in answer.classes.items())
        for row in rows
        for answer in row.answers
    )


async def strayed(rows: list[Row], known: Acknowledged, store: Store) -> int:
    """How many answers of a named line are by a head that was never live there."""
    live = {line: {record.head for record in await log.readable()} for line, log in (await logs(store)).items()}
    for (line, _), head in known.cut.items():
        live[line].add(head)
    return sum(answer.version not in live[answer.line] for answer in told(rows) if answer.line != DEFAULT)


def lost(known: Acknowledged, store: Path) -> list[str]:
    """Acknowledged writes that are not in the store."""
    names = set(asyncio.run(Store.open(store).names("")))
    gone = [f"snapshot {sha}" for sha in known.snapshots if f"snapshots/{sha}.safetensors" not in names]
    gone += [f"refit {job}" for job in known.jobs if f"refits/{job}/request.json" not in names]
    for (line, number), head in known.activations.items():
        path = store / folder(line) / f"{number:08d}.json"
        kept = (line, number) in known.cut or (path.exists() and json.loads(path.read_text())["head"] == head)
        if not kept:
            gone.append(f"activation {number} of head {head} in the line {line}")
    log = TrialLog(Store.open(store))
    asyncio.run(log.read())
    gone += [f"trial {one} of head {head}" for one, head in known.trials.items() if log.trial(one).head != head]
    return gone + asyncio.run(forgotten(known, Store.open(store)))


async def mistold(rows: list[Row], store: Store) -> int:
    """How many answers have another head in the store than their user was told."""
    said, other = {answer.id: answer.version for answer in told(rows) if answer.id}, 0
    async for _, records in Segments(store, ANSWERS).records():
        other += sum(said.get(one.id, one.head) != one.head for one in map(from_record, records))
    return other


async def forgotten(known: Acknowledged, store: Store) -> list[str]:
    """Acknowledged labels, and answers that the store had, that are not in it any more."""
    newest = await Examples(store).newest()
    gone = [f"label {one}" for one, name in known.labels.items() if one not in newest or newest[one].label != name]
    there = {record.id async for _, records in Segments(store, ANSWERS).records() for record in records}
    return gone + [f"answer {one}" for one in known.answers - there]
