"""Images however clients send them: the bytes decide, not what is said of them."""

import base64

import httpx
import pytest
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle

IMAGE = png(picture(3))
TYPES = (None, "image/png", "image/jpg", "image/jpeg", "image/x-png", "image/heic", "application/octet-stream",
         "binary/octet-stream", "application/x-www-form-urlencoded", "IMAGE/PNG; charset=binary")  # fmt: skip
ROUTES = ("/v1/predict", "/v1/features")


@pytest.fixture(scope="module")
def serve(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """A way to start the one server of this file."""
    return lambda: running(make_settings(tiny_bundle, tmp_path_factory.mktemp("store")))


def without_timing(answer: httpx.Response) -> dict[str, object]:
    """What an answer says of the image."""
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name in {"predictions", "features"}}


def test_the_bytes_decide(serve: Serve) -> None:
    """With any content type of an image, with none, and in base64 of any form, on every route: the same answer."""
    plain = base64.b64encode(IMAGE).decode()
    texts = (plain, base64.encodebytes(IMAGE).decode(), base64.urlsafe_b64encode(IMAGE).decode(), plain.rstrip("="),
             f"data:image/png;base64,{plain}")  # fmt: skip
    with serve() as client:
        for route in ROUTES:
            wanted = without_timing(client.post(route, content=IMAGE, headers={"content-type": "image/png"}))
            for kind in TYPES:
                headers = {} if kind is None else {"content-type": kind}
                assert without_timing(client.post(route, content=IMAGE, headers=headers)) == wanted, kind
            for text in texts:
                assert without_timing(client.post(route, json={"images": [text]})) == wanted, text[:30]
            form = {"files": [("a", IMAGE)], "data": {"note": "from the page", "x": "1"}}
            assert without_timing(client.post(route, **form)) == wanted


def test_other_content_types_are_told(serve: Serve) -> None:
    """What says that it is no image is refused with what is taken."""
    with serve() as client:
        for kind in ("text/csv", "text/plain", "video/mp4", "application/xml"):
            answer = client.post("/v1/predict", content=IMAGE, headers={"content-type": kind})

            assert answer.status_code == 415
            assert f"content-type '{kind}': expected" in answer.json()["error"]["message"]
