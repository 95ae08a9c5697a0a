"""What the clients take as images, from every kind that people have; and what they say of what is none."""

import asyncio
import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from running import Serve
from tiny import CLASSES, SIDE, expected_features, picture, png

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.client.images import InputError, files

ONE = png(picture(1))


def spooled(data: bytes) -> Any:
    """An open temporary file."""
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - the test reads it
    file.write(data)
    file.seek(0)
    return file


TAKEN: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "path as text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "temporary file": lambda path: spooled(path.read_bytes()),
    "PIL image": lambda path: Image.open(io.BytesIO(path.read_bytes())),
    "array": lambda _: picture(1),
    "array that is not contiguous": lambda _: picture(1)[::-1][::-1],
    "RGBA array": lambda _: np.dstack([picture(1), np.full((SIDE, SIDE), 255, np.uint8)]),
    "read-only array": lambda _: np.frombuffer(picture(1).tobytes(), np.uint8).reshape(SIDE, SIDE, 3),
    "batch of one": lambda _: picture(1)[None],
    "list of one array": lambda _: [picture(1)],
    "list of paths": lambda path: [path],
    "tuple": lambda path: (path,),
    "generator": lambda path: (one for one in [path]),
    "iterator": lambda path: iter([str(path)]),
    "array of paths": lambda path: np.array([str(path)]),
    "array of objects": lambda path: np.array([path], object),
    "text of numpy": np.str_,
}


@contextlib.contextmanager
def opened(make: Callable[[Path], Any], path: Path) -> Iterator[Any]:
    """What is made of a path, closed in the end where it can be."""
    made = make(path)
    try:
        yield made
    finally:
        if hasattr(made, "close"):
            made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An image file, with a name that is no ASCII."""
    (tmp_path / "Bäume 1.png").write_bytes(ONE)
    return tmp_path / "Bäume 1.png"


@pytest.mark.parametrize("kind", TAKEN)
def test_one_image_of_every_kind_gives_its_features(client: httpx.Client, path: Path, kind: str) -> None:
    """Those that numpy computes of its pixels, float32, in an array; from both clients."""
    url = str(client.base_url)

    async def ask() -> Any:
        async with AsyncClient(url) as other:
            with opened(TAKEN[kind], path) as first, opened(TAKEN[kind], path) as second:
                return await other.features(first), await other.predict(second)

    with Client(url) as ours, opened(TAKEN[kind], path) as first, opened(TAKEN[kind], path) as second:
        found, predicted = ours.features(first), ours.predict(second, top_k=1)
    same, also = asyncio.run(ask())

    assert isinstance(found.features, np.ndarray)
    assert (found.features.dtype, found.features.shape, len(found)) == (np.float32, (1, 4), 1)
    assert found.feature_dim == 4
    np.testing.assert_allclose(found, expected_features(picture(1)[None]), atol=1e-5)
    np.testing.assert_array_equal(same.features, found.features)
    assert predicted.predictions[0].classes[0] == also.predictions[0].classes[0]


def test_many_kinds_together_keep_their_order(client: httpx.Client, path: Path) -> None:
    """A list may hold different kinds; a batch is its images."""
    with Client(str(client.base_url)) as ours:
        found = ours.features([path, np.stack([picture(2), picture(3)]), png(picture(4))])

    pixels = np.stack([picture(seed) for seed in (1, 2, 3, 4)])
    np.testing.assert_allclose(found.features, expected_features(pixels), atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"])
def test_a_pil_image_of_every_mode_is_sent(mode: str) -> None:
    """With the pixels that its own conversion to RGB gives, where no part of it is transparent."""
    image = Image.fromarray(picture(1)).convert("RGB")
    other = image.convert("RGBA").convert(mode) if mode == "RGBa" else None
    if other is None:
        other = image.convert("P").convert("PA") if mode == "PA" else None
    if other is None:
        other = Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image.convert(mode)

    ((_, data),) = files(other)

    sent = Image.open(io.BytesIO(data))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent.convert("RGB")), np.asarray(other.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_stands_as_viewers_show_it(client: httpx.Client, orientation: int) -> None:
    """The same features as the file from which it was opened."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.tile(picture(1), (1, 2, 1))).save(file, "PNG", exif=exif)
    with Client(str(client.base_url)) as ours:
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
        both = ours.features([Image.open(io.BytesIO(file.getvalue())), np.asarray(upright)]).features

    np.testing.assert_array_equal(both[0], both[1])


def closed(path: Path) -> Any:
    """A file that was closed."""
    with path.open("rb") as file:
        pass
    return file


def read(path: Path) -> Any:
    """A file that was read to its end."""
    file = io.BytesIO(path.read_bytes())
    file.read()
    return file


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda _: None, "image 1: expected a path, .* got None"),
    "number": (lambda _: 7, "image 1: expected a path, .* type int"),
    "empty list": (lambda _: [], "no images came"),
    "empty tuple": (lambda _: (), "no images came"),
    "empty generator": (lambda _: iter(()), "no images came"),
    "empty batch": (lambda _: np.zeros((0, 8, 8, 3), np.uint8), "no images came"),
    "empty bytes": (lambda _: b"", "image 1: expected the bytes of an image file, got none"),
    "empty text": (lambda _: "", "is a folder|cannot be read"),
    "missing file": (lambda path: path.with_name("no.png"), "image 1: .*no.png' cannot be read: No such file"),
    "missing file as text": (lambda path: str(path.with_name("no.png")), "no.png' cannot be read"),
    "second missing": (lambda path: [path, path.with_name("no.png")], "image 2: .*no.png"),
    "empty file": (lambda path: path.with_name("empty.png"), "empty.png': expected the bytes .*, got none"),
    "folder": (lambda path: path.parent, "is a folder; pass its files"),
    "URL": (lambda _: "https://example.org/a.png", "is a URL"),
    "data URL": (lambda _: "data:image/png;base64,AAAA" + "A" * 9_000, "is a URL"),
    "long text": (lambda _: "A" * 9_000, "cannot be read: File name too long"),
    "text with a zero": (lambda _: "a\0b", "cannot be read: "),
    "text file": (lambda path: path.open(encoding="latin-1"), 'opened as text; open it with "rb"'),
    "StringIO": (lambda _: io.StringIO("x"), 'opened as text; open it with "rb"'),
    "closed file": (closed, "the file cannot be read"),
    "file at its end": (read, "seek"),
    "float array": (lambda _: np.zeros((8, 8, 3), np.float32), r"expected a uint8 array, got float32 .*255 \* array"),
    "int array": (lambda _: np.zeros((8, 8, 3), int), "expected a uint8 array, got int64"),
    "bool array": (lambda _: np.zeros((8, 8), bool), "expected a uint8 array, got bool"),
    "float batch": (lambda _: np.zeros((2, 8, 8, 3)), "image 1: expected a uint8 array, got float64"),
    "channels first": (lambda _: np.zeros((3, 8, 8), np.uint8), r"array.transpose\(1, 2, 0\)"),
    "two channels": (lambda _: np.zeros((8, 8, 2), np.uint8), "expected an array of H × W"),
    "no pixels": (lambda _: np.zeros((0, 8, 3), np.uint8), "expected an array of H × W"),
    "five dimensions": (lambda _: np.zeros((1, 1, 8, 8, 3), np.uint8), "expected an array of H × W"),
    "bytes in an array": (lambda _: np.frombuffer(ONE, np.uint8), r"array.tobytes\(\)"),
    "float PIL image": (lambda _: Image.new("F", (8, 8)), "mode F"),
    "int PIL image": (lambda _: Image.new("I", (8, 8)), "mode I"),
    "PIL image of no pixels": (lambda _: Image.new("RGB", (0, 8)), "0 × 8"),
    "set": (lambda path: {path}, "has no order"),
    "dict": (lambda path: {"a": path}, "has no order"),
    "nested lists": (lambda path: [[path]], "got a list; pass one flat list"),
    "none in a list": (lambda path: [path, None], "image 2: .* got None"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_taken_is_told_in_one_sentence(path: Path, case: str) -> None:
    """Which image, what came and what to do; nothing is sent, by either client."""
    path.with_name("empty.png").touch()
    make, message = REFUSED[case]

    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    async def ask() -> None:
        async with AsyncClient("http://x", transport=httpx.MockTransport(refuse)) as other:
            with opened(make, path) as given:
                await other.predict(given)

    for method in ("predict", "features"):
        with (
            opened(make, path) as given,
            Client("http://x", transport=httpx.MockTransport(refuse)) as ours,
            pytest.raises(InputError, match=message) as told,
        ):
            getattr(ours, method)(given)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=message):
        asyncio.run(ask())


@pytest.mark.parametrize(("most", "count"), [(1, 3), (4, 4), (4, 5), (7, 70), (64, 65)])
def test_more_images_than_the_server_takes_go_in_several_requests(serve: Serve, most: int, count: int) -> None:
    """In order, by one head, whatever goes live in between; features and snapshots too, by either client."""
    pixels = np.stack([picture(seed) for seed in range(count)])
    labels: list[str | int | None] = [None if seed == 1 else seed % 3 for seed in range(count - 1)] + ["yew"]
    ids = np.random.default_rng(count).permutation(count)

    async def ask(url: str) -> Any:
        async with AsyncClient(url) as other:
            return await other.predict(pixels, top_k=3), await other.features(iter(pixels))

    with serve(max_images=most, queue=256) as server, Client(str(server.base_url)) as ours:
        found = ours.features(pixels)
        answer = ours.predict([png(one) for one in pixels], top_k=3)
        data = ours.snapshot(pixels, labels, 7, ids, "d" * 64)
        same, also = asyncio.run(ask(str(server.base_url)))

    np.testing.assert_allclose(found.features, expected_features(pixels), atol=1e-5)
    np.testing.assert_array_equal(also.features, found.features)
    assert answer.predictions == same.predictions
    assert len(answer.predictions) == count
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "new.safetensors").write_bytes(data)
        snapshot = snapshots.read(path)
        assert snapshot.classes == (*CLASSES, "yew")
        assert [None if index < 0 else snapshot.classes[index] for index in snapshot.labels] == [
            CLASSES[label] if isinstance(label, int) else label for label in labels
        ]
        assert snapshot.ids is not None
        assert (snapshot.ids.tolist(), snapshot.dataset) == (ids.tolist(), "d" * 64)
        np.testing.assert_array_equal(snapshot.features, found.features)


def test_all_parts_are_answered_by_the_head_that_answered_the_first(serve: Serve) -> None:
    """Even where another one goes live between two of them."""
    with serve(max_images=2) as server, Client(str(server.base_url)) as ours:
        ours.wait(ours.refit().id)
        ours.activate(1)
        asked: list[httpx.Request] = []

        class Swapping(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                answer = super().handle_request(request)
                if request.url.path == "/v1/predict" and answer.status_code == 200 and not asked:
                    asked.append(request)
                    ours.activate(2)
                return answer

        with Client(str(server.base_url), transport=Swapping()) as other:
            answer = other.predict(np.stack([picture(seed) for seed in range(5)]))
        assert ours.predict(picture(1)).head.version == 2

    assert answer.head.version == 1
    assert len(answer.predictions) == 5


def test_parts_are_cut_by_their_bytes_too(serve: Serve) -> None:
    """And one image that alone is too large is refused in the server's words."""
    with serve(max_body_bytes=3_000) as server, Client(str(server.base_url)) as ours:
        assert len(ours.predict([picture(seed) for seed in range(20)]).predictions) == 20
        with pytest.raises(ServerError, match="the limit is"):
            ours.predict([picture(1), np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)])


def test_labels_are_one_an_image(serve: Serve) -> None:
    """A single one for a single image, numbers of numpy, and as many as images."""
    with serve(max_images=2) as server, Client(str(server.base_url)) as ours:
        for labels in ("oak", 0, ["oak"], np.array([0]), [np.int64(0)], np.array(["oak"])):
            assert ours.snapshot(picture(1), labels, 3)
        for labels in (["oak"], ["oak"] * 4, np.zeros(2, int)):
            with pytest.raises(InputError, match="expected one each"):
                ours.snapshot([picture(1)] * 3, labels, 3)
