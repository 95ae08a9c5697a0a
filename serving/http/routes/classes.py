"""`/v1/classes`: the classes that the live head knows, or that examples name, and what there is of each."""

from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Request

from breadcrumbs.models.bundle import Manifest
from breadcrumbs.models.groups import groups
from breadcrumbs.serving.http.access_control import key_of
from breadcrumbs.serving.http.examples.schemas import ClassList, ClassRecord
from breadcrumbs.serving.http.schemas import HeadName
from breadcrumbs.serving.http.service import LineOf, Serving, line_of, problems

router = APIRouter(tags=["labels"])


@router.get("/v1/classes", responses=problems(403, 404, 422))
async def listing(request: Request, service: Serving, line: LineOf = None) -> ClassList:
    """List every class with its training images and its examples; a key without `admin` counts its own examples.

    First come the classes of the live head, in its order, then the new ones that only examples name.
    """
    live = (await line_of(request, service, line)).head
    key = key_of(request)
    newest = (await service.examples.newest()).values()
    own = [said for said in newest if key is None or key.may("admin") or key.name == said.owner]
    every, verified = Counter(said.label for said in own), Counter(said.label for said in own if said.verified)
    listed = _listed(service.bundle.manifest, live.head.classes, every, verified)
    return ClassList(head=HeadName(version=live.version, digest=live.head.digest), classes=list(listed))


def _listed(
    manifest: Manifest, known: tuple[str, ...], every: Counter[str], verified: Counter[str]
) -> Iterator[ClassRecord]:
    images = dict(zip(manifest.classes, manifest.train_counts, strict=True))
    group = dict(zip(manifest.classes, groups(manifest.train_counts, manifest.groups), strict=True))
    there = set(known)
    for name in (*known, *sorted(every.keys() - there)):
        yield ClassRecord(
            name=name, known=name in there, group=group.get(name),
            train_images=images.get(name, 0), examples=every[name], verified=verified[name],
        )  # fmt: skip
