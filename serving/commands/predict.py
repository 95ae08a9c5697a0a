"""`breadcrumbs predict`: images in, classes out, by a server or by a bundle, in one form."""

from pathlib import Path
from typing import Any

from models.errors import BreadcrumbsError
from serving.commands.server import LOCAL, Key, Server
from training.bars import track
from training.progress import Json, tell_json


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
    """A server's answer: the head, and the ranked classes of each image."""
    from serving.client import Client

    with Client(server, key=key) as client:
        answer = client.predict(list(images), top_k)
    ranked = [[one.model_dump(by_alias=True) for one in each.classes] for each in answer.predictions]
    return {"head": answer.head.model_dump(), "predictions": ranked}
