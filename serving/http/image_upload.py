"""The images of a request, in whichever of its three forms they came: raw, multipart, or base64 in JSON.

It counts and measures them, and knows nothing of what an image is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.base64_text import from_base64
from breadcrumbs.serving.http.schemas import FeaturesBody
from breadcrumbs.serving.refusals import BadRequest, TooLarge, Unsupported, tell
from breadcrumbs.serving.settings import Settings

RAW = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
"""Content types of clients that do not set one for an image; the last is curl's default."""
DOCUMENTED = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
FORMS = ("the bytes of one image, with any content type of an image or none", "multipart/form-data", "application/json")


WORDS = ("labels", "epoch", "ids", "dataset")
"""The text fields of a form that are read; others, such as a note of the page that sent it, are left alone."""


@dataclass(frozen=True)
class Upload:
    """What came.

    Attributes:
        images: the bytes of image files, at least one.
        labels: one per image, names or indices, None for an image without one. None means that none came.
        epoch: of the snapshot that is asked for. None means that none came.
        ids: one per image, as in `Snapshot`. None means that none came.
        dataset: as in `Snapshot`.
    """

    images: list[bytes]
    labels: list[str | int | None] | None = None
    epoch: int | None = None
    ids: list[int] | None = None
    dataset: str = ""


async def read(request: Request, settings: Settings) -> Upload:
    """Read a request's images.

    Raises:
        Unsupported: the content type is none of `FORMS`. An image's own content type is ignored: its bytes decide what
            it is.
        TooLarge: the body, an image, or the number of images is over its limit.
        BadRequest: there is no image, or the body does not match its content type.
    """
    kind = bodies.media_type(request)
    if kind.startswith("image/") or kind in RAW:
        upload = Upload([await bodies.read_body(request, settings.max_image_bytes, "image")])
    elif kind == "multipart/form-data":
        upload = await _from_form(request, settings)
    elif kind == "application/json":
        body = await bodies.read_json(request, FeaturesBody, settings.max_body_bytes)
        images = _decoded(body.images, settings)
        upload = Upload(images, body.labels, body.epoch, body.ids, body.dataset)
    else:
        raise Unsupported(f"content-type {kind!r:.80}: expected {', or '.join(FORMS)}")
    for name, words in (("labels", upload.labels), ("ids", upload.ids)):
        if words is not None and len(words) != len(upload.images):
            raise BadRequest(f"{len(words)} {name} for {len(upload.images)} images; expected one each")
    _check_sizes(upload.images, settings)
    return upload


def from_base64_list(texts: Sequence[str], settings: Settings) -> list[bytes]:
    """Return the bytes of images in base64; raises as `read`."""
    images = _decoded(texts, settings)
    _check_sizes(images, settings)
    return images


def _check_sizes(images: Sequence[bytes], settings: Settings) -> None:
    for place, image in enumerate(images):
        name = f"image {place + 1} of {len(images)}"
        if not image:
            raise BadRequest(f"{name} is empty")
        if len(image) > settings.max_image_bytes:
            raise TooLarge(f"{name} has {len(image)} bytes; the limit is {settings.max_image_bytes}")


def _check_count(count: int, settings: Settings) -> None:
    if count > settings.max_images:
        raise TooLarge(f"the request has {count} images; the limit is {settings.max_images}")


def _decoded(texts: Sequence[str], settings: Settings) -> list[bytes]:
    """The bytes of images in base64."""
    _check_count(len(texts), settings)
    images = []
    for place, text in enumerate(texts):
        try:
            images.append(from_base64(text))
        except ValueError as error:
            raise BadRequest(f"image {place + 1} of {len(texts)} is not base64: {error}") from error
    return images


async def _from_form(request: Request, settings: Settings) -> Upload:
    """Every file is an image, whatever its field's name; `labels` and `ids` (JSON lists), `epoch` and `dataset` are
    fields.
    """
    form = await bodies.read_form(request, settings.max_body_bytes, settings.max_images + 1, "request body")
    try:
        files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
        _check_count(len(files), settings)
        bodies.hold(request, sum(file.size or 0 for file in files))
        images = [await file.read() for file in files]
        words = _words(form, len(images))
    finally:
        await form.close()
    return Upload(images, words.labels, words.epoch, words.ids, words.dataset)


def _words(form: FormData, images: int) -> FeaturesBody:
    """The fields of a form that are no files, checked as their JSON form is."""
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str) and name in WORDS}
    if not images:
        raise BadRequest("the form has no file; expected at least one image")
    try:
        values = {name: text if name == "dataset" else from_json(text) for name, text in fields.items()}
    except ValueError as error:
        raise BadRequest(f"form fields: expected JSON: {error}") from error
    try:
        return FeaturesBody.model_validate({"images": ["the files are beside this"], **values})
    except ValidationError as error:
        raise BadRequest(f"form fields: {tell(error)}") from error
