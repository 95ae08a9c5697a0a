"""A disk without room, or that cannot be written: refused with a clear word, the live head serves, nothing half."""

import asyncio
import contextlib
import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from refits import finish, upload
from running import make_settings, running
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.state import durable
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB; where this process may not mount one, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a small disk here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """No room, for a while."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


def statuses(client: httpx.Client) -> dict[str, int]:
    """The answer to each kind of write, and to a prediction."""
    data = snapshots.to_bytes(tiny_snapshot("b" * 64, 9, rows=3_000))
    return {
        "upload": client.put("/v1/snapshots", content=data).status_code,
        "refit": client.post("/v1/refit", json={}).status_code,
        "activate": client.post("/v1/heads/1/activate").status_code,
        "label": client.post("/v1/labels", json={"labels": [{"feature": [0] * 4, "class": "oak"}]}).status_code,
        "predict": client.post(
            "/v1/predict", content=png(picture()), headers={"content-type": "image/png"}
        ).status_code,
    }


def test_a_full_disk_refuses_writes_and_goes_on_serving(disk: Path, tiny_bundle: Bundle) -> None:
    """With 507, in words; and when there is room again all is as before."""
    with running(make_settings(tiny_bundle, disk / "store")) as client:
        upload(client)
        finish(client, {"spec": {"activate": "always"}})
        with full(disk):
            assert statuses(client) == {"upload": 507, "refit": 507, "activate": 507, "label": 507, "predict": 200}
            assert "No space left on device" in client.post("/v1/refit", json={}).json()["error"]["message"]
            assert client.get("/v1/heads").json()["live"] == 2
        assert asyncio.run(verify(Store.open(disk / "store"))).findings == ()
        assert statuses(client) == {"upload": 201, "refit": 202, "activate": 200, "label": 200, "predict": 200}


def test_a_disk_that_cannot_be_written_refuses_writes_and_goes_on_serving(disk: Path, tiny_bundle: Bundle) -> None:
    """With 503; and it comes back without a restart."""
    with running(make_settings(tiny_bundle, disk / "store")) as client:
        finish(client, {"spec": {"activate": "always"}})
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert statuses(client) == {"upload": 503, "refit": 503, "activate": 503, "label": 503, "predict": 200}
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert statuses(client) == {"upload": 201, "refit": 202, "activate": 200, "label": 200, "predict": 200}
    assert asyncio.run(verify(Store.open(disk / "store"))).findings == ()


def test_a_disk_that_errs_refuses_writes_and_goes_on_serving(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO on every write: 503, and all is well when it is over."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        finish(client, {"spec": {"activate": "always"}})

        def err(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(durable, "write", err)
            assert statuses(client) == {"upload": 503, "refit": 503, "activate": 503, "label": 503, "predict": 200}
        assert statuses(client) == {"upload": 201, "refit": 202, "activate": 200, "label": 200, "predict": 200}
    assert asyncio.run(verify(Store.open(tmp_path / "store"))).findings == ()


def full_at(part: str) -> Callable[..., None]:
    """What writes, but for objects of this name, for which the disk has no room."""
    real = durable.write

    def write(root: Path, path: Path, *rest: Any, **how: Any) -> None:
        if str(path).endswith(part):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(root, path, *rest, **how)

    return write


@pytest.mark.parametrize(
    "part", ["judged.json", "head.safetensors", "head.onnx", "head.json", "activations/00000002.json"]
)
def test_a_refit_that_finds_the_disk_full_leaves_nothing_half_written(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whatever it was about to write: it has failed and says so, the live head serves, and the next refit goes live."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        with monkeypatch.context() as broken:
            broken.setattr(durable, "write", full_at(part))
            job = finish(client, {"spec": {"activate": "always"}})
        assert (job["state"], client.get("/v1/heads").json()["live"]) == ("failed", 1)
        assert "No space left on device" in job["error"]["message"]
        assert asyncio.run(verify(Store.open(tmp_path / "store"))).findings == ()
        assert finish(client, {"spec": {"activate": "always"}})["verdict"]["activated"]


@pytest.mark.parametrize("part", ["report.json", "report.html"])
def test_a_head_is_live_though_the_disk_has_no_room_for_its_report(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """It was judged and stored before; the verdict says that there is no report, and why."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        monkeypatch.setattr(durable, "write", full_at(part))
        job = finish(client, {"spec": {"activate": "always"}})

        assert (job["state"], client.get("/v1/heads").json()["live"]) == ("succeeded", 2)
        assert "there is no report" in job["verdict"]["note"]
        assert "No space left on device" in job["verdict"]["note"]
        assert asyncio.run(verify(Store.open(tmp_path / "store"))).findings == ()
