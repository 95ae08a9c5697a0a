"""Images in a bucket: shards and lists read from an S3-compatible server, the same as from a folder."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from buckets import bucket as bucket_of
from packing import shards_of
from small_run import small_config

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import objects
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.loader import TrainingBatches, evaluation_batches, preprocess_for
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.order import Order
from breadcrumbs.training.run.fit import fit


@pytest.fixture(scope="module")
def bucket(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket with the images, as shards and one by one; what an operator would have in the environment is there."""
    with bucket_of("pictures") as client:
        objects._bucket.cache_clear()
        out = tmp_path_factory.mktemp("packed")
        for part in ("train", "test"):
            shards_of(images / part, out / part)
        for root, prefix in ((out, "shards"), (images, "single")):
            for path in root.rglob("*.*"):
                client.upload_file(str(path), "pictures", f"{prefix}/{path.relative_to(root)}")
        yield "s3://pictures"
    objects._bucket.cache_clear()


def config(bucket: str, **more: object) -> TrainConfig:
    given = {
        f"{key}data": f"{bucket}/shards/{part}/train-{{000..002}}.tar"
        for key, part in (("", "train"), ("test_", "test"))
    }
    return small_config(Path(), 1).model_copy(update=given | more)


def batches(chosen: TrainConfig) -> list[torch.Tensor]:
    """The augmented images of an epoch."""
    split = datasets.load(chosen).train
    order = Order(len(split), chosen.batch_size, chosen.seed)
    return [images for images, _, _ in TrainingBatches(split, chosen, order).epoch(0)]


def test_shards_in_a_bucket_are_the_folder(bucket: str, images: Path) -> None:
    """Rows, classes, and every augmented pixel."""
    folder, remote = datasets.load(small_config(images)), datasets.load(config(bucket))

    assert remote.train.remote
    assert not folder.train.remote
    assert remote.classes == folder.classes
    assert remote.train.labels.tolist() == folder.train.labels.tolist()
    assert all(
        torch.equal(*pair) for pair in zip(batches(config(bucket)), batches(small_config(images, 1)), strict=True)
    )


@pytest.mark.slow
def test_workers_read_a_bucket(bucket: str, images: Path) -> None:
    """In processes of their own, which bring up connections of their own; epochs and evaluations alike."""
    chosen = config(bucket, workers=2)
    split = datasets.load(chosen).test
    alone, helped = (
        [
            one
            for one, _, _ in evaluation_batches(
                split, preprocess_for(split, chosen), chosen.model_copy(update={"workers": n})
            )
        ]
        for n in (0, 2)
    )

    assert all(torch.equal(*pair) for pair in zip(alone, helped, strict=True))
    assert all(torch.equal(*pair) for pair in zip(batches(chosen), batches(small_config(images, 1)), strict=True))


@pytest.mark.slow
def test_a_run_on_a_bucket_is_the_run_on_the_folder(bucket: str, run: Path, tmp_path: Path) -> None:
    """The same network, to the last bit."""
    epochs = len((run / "log.jsonl").read_text().splitlines())
    fit(config(bucket).model_copy(update={"epochs": epochs}), tmp_path)
    ours, theirs = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (tmp_path, run))

    torch.testing.assert_close(ours["network"], theirs["network"], rtol=0, atol=0)


def test_a_list_of_urls_is_the_list_of_files(bucket: str, images: Path, tmp_path: Path) -> None:
    """The same rows and pixels; one that is not there is told before anything starts, by its URL."""
    here = small_config(images, 1)
    folder = datasets.load(here)
    for part, split in (("train", folder.train), ("test", folder.test)):
        names = [f"single/{Path(str(path)).relative_to(images)}" for path in split.paths or ()]
        lines = [f"{bucket}/{name} {label}" for name, label in zip(names, split.labels, strict=True)]
        (tmp_path / f"{part}.txt").write_text("\n".join(lines))
    chosen = here.model_copy(update={"data": str(tmp_path / "train.txt"), "test_data": str(tmp_path / "test.txt")})

    assert all(torch.equal(*pair) for pair in zip(batches(chosen), batches(here), strict=True))
    with (tmp_path / "train.txt").open("a") as file:
        file.write(f"\n{bucket}/single/gone.png 0\ns3://pictures 0\n")
    with pytest.raises(DataError, match=r"s3://pictures/single/gone\.png: not there") as told:
        datasets.load(chosen)
    assert "s3://pictures: not the URL of an object" in str(told.value)


def test_a_shard_that_is_not_in_the_bucket_is_told(bucket: str) -> None:
    """By its URL, and only that one."""
    with pytest.raises(
        DataError, match=r"1 problem in the shards:\ns3://pictures/shards/train/train-003\.tar: not there"
    ):
        datasets.load(config(bucket, data=f"{bucket}/shards/train/train-{{000..003}}.tar"))


def test_parts_of_an_object_are_parts_of_the_file(bucket: str, images: Path) -> None:
    """From the start, the middle and to the end; beyond it is told."""
    file = min((images / "train/red").iterdir())
    place, data = f"{bucket}/single/train/red/{file.name}", file.read_bytes()
    for where in (place, str(file)):
        assert objects.size(where) == len(data)
        assert objects.read(where) == data
        assert objects.read(where, 7) == data[7:]
        assert objects.read(where, 3, 5) == data[3:8]
        assert objects.read(where, 3, 0) == b""
        with pytest.raises(OSError):
            objects.read(where, len(data) - 2, 5)
    assert Span(place, 3, 5).read_bytes() == data[3:8]


def test_a_plain_web_server_will_do_for_lists(images: Path) -> None:
    """For whole files over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(images))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        file = min((images / "train/red").iterdir())
        root = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            assert Span(f"{root}/train/red/{file.name}").read_bytes() == file.read_bytes()
            assert objects.size(f"{root}/train/red/{file.name}") == file.stat().st_size
            with pytest.raises(FileNotFoundError):
                objects.read(f"{root}/gone.png")
        finally:
            server.shutdown()
            thread.join()
