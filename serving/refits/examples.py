"""The examples that a refit stands on: taken from the store, written for its child, and noted beside its job.

    refits/<id>/examples.json   which examples, so that the heads fitted with one can be named when it is erased

It knows nothing of how a head is fitted to them, or of which of them judge.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.learning.example import Example, Said
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.store import NotFound, Store, StoreError

Which = Literal["verified", "all", "none"]
"""Which examples a refit takes."""
BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


class Taken(BaseModel):
    """The examples that a refit took; `examples.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ids: list[str]
    """Of the examples, in order."""
    until: int
    """When the newest label came that the refit could know, in microseconds since 1970."""

    @property
    def digest(self) -> str:
        """sha256 over the ids."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()


def usable(said: Iterable[Said], which: Which, backbone: str) -> list[Said]:
    """Return the labels that a refit takes: of the deployed backbone, and verified unless all are wanted."""
    return [one for one in said if which != "none" and one.backbone == backbone and (one.verified or which == "all")]


async def require(examples: Examples, which: Which, backbone: str) -> None:
    """Refuse a refit from examples where there are none.

    Raises:
        BadRequest: no example of the deployed backbone is such.
        StoreError: the examples cannot be read.
    """
    if which != "none" and not usable((await examples.newest()).values(), which, backbone):
        kind = "verified example" if which == "verified" else "example"
        raise BadRequest(
            f"examples: {which}, and there is no {kind} of the deployed backbone: label some by POST /v1/labels, or "
            "leave `examples` out"
        )


async def write(examples: Examples, which: Which, backbone: str, folder: Path) -> tuple[Taken | None, list[Path]]:
    """Write the examples for a refit's child, and return which they are and the files.

    Args:
        examples: of the store.
        which: of them.
        backbone: sha256 of the deployed backbone; examples of others are left out.
        folder: for the files, one of verified examples and one of others.

    Returns:
        None and no file, where there are none.

    Raises:
        StoreError: the examples cannot be read.
    """
    if which == "none":
        return None, []
    every = await examples.current(verified=True if which == "verified" else None)
    mine = [one for one in every if one.backbone == backbone]
    if not mine:
        return None, []
    paths = await asyncio.to_thread(_write, _of_each_image(mine), backbone, folder)
    newest = max(one.at for one in mine)
    return Taken(ids=[one.id for one in mine], until=(newest - BEGIN) // timedelta(microseconds=1)), paths


def _of_each_image(examples: Sequence[Example]) -> list[Example]:
    """One example of each image, whoever labelled it, the newest first: of several the newest verified one."""
    found: dict[str, Example] = {}
    for one in sorted(examples, key=lambda one: (one.verified, one.at, one.id)):
        found[one.content] = one
    return sorted(found.values(), key=lambda one: (one.at, one.id), reverse=True)


def _write(examples: Sequence[Example], backbone: str, folder: Path) -> list[Path]:
    paths = []
    for verified in (False, True):  # of equal rows, the label in the last file holds
        own = [one for one in examples if one.verified == verified]
        if own:
            path = folder / f"{'verified' if verified else 'unverified'}-examples.safetensors"
            features, labels = np.stack([one.feature for one in own]), [one.label for one in own]
            contents = [one.content for one in own]
            snapshots.write(path, labelled.snapshot(features, labels, contents, backbone, verified=verified))
            paths.append(path)
    return paths


async def note(store: Store, job: str, taken: Taken) -> None:
    """Note beside a job what it took; of a restarted job, the last time counts.

    Raises:
        StoreError: the store cannot be written.
    """
    await store.replace(_name(job), taken.model_dump_json().encode() + b"\n")


async def noted(store: Store, job: str) -> Taken | None:
    """Return what a job took. None means no example.

    Raises:
        StoreError: the note cannot be read, or is damaged.
    """
    try:
        return Taken.model_validate_json(await store.get(_name(job)))
    except NotFound:
        return None
    except ValidationError as error:
        raise StoreError(f"{_name(job)} is damaged: {error.errors()[0]['msg']}") from error


def _name(job: str) -> str:
    return f"refits/{job}/examples.json"
