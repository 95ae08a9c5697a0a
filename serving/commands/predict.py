"""`breadcrumbs predict`: images in, classes out, by a server or by a bundle, in one form."""

from pathlib import Path
from typing import Any

from models.errors import BreadcrumbsError
from serving.commands.server import LOCAL, Key, Server
from training.bars import track
from training.progress import Json, tell_json

ABOUT_THE_IMAGE = (413, 415, 422)
"""Statuses by which a server says that it cannot take an image."""


def predict(
    *images: Path,
    server: Server = LOCAL,
    bundle: Path | None = None,
    top_k: int = 3,
    json: Json = False,
    key: Key = None,
) -> None:
    """Classify images, with a running server or, without one, with a bundle.

    Example: `breadcrumbs predict cat.jpg dog.png`

    Args:
        images: JPEG, PNG or WebP files.
        bundle: Folder of a bundle, to compute here instead of asking a server.
        top_k: Number of classes to show for each image.
        json: Print one JSON object: the head that answered, and each image's classes as in the API.
    """
    if not images:
        raise BreadcrumbsError("predict: name at least one image")
    if top_k < 1:
        raise BreadcrumbsError(f"--top-k {top_k}: expected at least 1")
    if bundle is None:
        found, source = _asked(images, server, key, top_k), ""
    else:
        from serving.local import predict as compute

        digest, ranked = compute(bundle, track(images, len(images), "predict"), top_k)
        found, source = {"head": {"version": None, "digest": digest}, "predictions": ranked}, str(bundle)
    named = [
        {"image": str(path), "classes": classes} for path, classes in zip(images, found["predictions"], strict=True)
    ]
    if json:
        tell_json({"head": found["head"], "predictions": named})
        return
    for one in named:
        words = "  ".join(f"{ranked['class']} {ranked['probability']:.3f}" for ranked in one["classes"])
        where = source or f"head {found['head']['version']}"
        print(f"{one['image']}  {words}  ({where})")  # noqa: T201


def _asked(images: tuple[Path, ...], server: str, key: str | None, top_k: int) -> dict[str, Any]:
    """The head that is live, and the classes by which it ranks each image, whatever goes live meanwhile."""
    from serving.client import Client, ServerError

    head: dict[str, Any] = {"version": "active"}
    ranked = []
    with Client(server, key=key) as client:
        for path in track(images, len(images), "predict"):
            try:
                answer = client.predict([path], top_k, head["version"])
            except ServerError as error:
                if error.status not in ABOUT_THE_IMAGE:
                    raise
                raise ServerError(f"{path}: {error}", error.status, error.kind) from error
            head = answer.head.model_dump()
            ranked.append([one.model_dump(by_alias=True) for one in answer.predictions[0].classes])
    return {"head": head, "predictions": ranked}
