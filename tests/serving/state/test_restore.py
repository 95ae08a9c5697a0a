"""A store is copied while a server writes to it, by the words of docs/deploy.md; another server lives on the copy."""

import asyncio
import re
import shlex
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
from refits import finish, until, upload
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import verify

PAGE = (Path(__file__).parents[3] / "docs/deploy.md").read_text()
BACKUP, RESTORE = (
    re.findall(rf"^\$ ({words}.*)$", PAGE, re.MULTILINE)[0] for words in ("for part in", "cp -a /backup")
)
PARTS = re.findall(r"for part in (.*?);", BACKUP)[0].split()
ALWAYS = {"spec": {"activate": "always"}}
PNG = {"content-type": "image/png"}


def copy(command: str, store: Path, backup: Path) -> None:
    """Run a line of the page on other folders."""
    backup.mkdir(exist_ok=True)
    line = command.replace("/var/lib/breadcrumbs", shlex.quote(str(store))).replace("/backup", shlex.quote(str(backup)))
    subprocess.run(["bash", "-ec", line], check=True)


def learn(client: httpx.Client, epoch: int) -> int:
    """Upload, refit, go live; return the head's version."""
    sha = upload(client, epoch)
    return int(finish(client, {"snapshots": [sha], **ALWAYS})["verdict"]["head"])


def log_of(store: Path) -> list[int]:
    """The heads that went live, oldest first."""
    return [record.head for record in asyncio.run(Log(Store.open(store)).read())]


def test_a_copy_taken_in_the_pages_order_is_whole(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Whatever goes live meanwhile: the copy has all that its log speaks of, and a server goes on from there."""
    with serve() as client:
        learn(client, 1)
        client.put("/v1/lines/lab-a")
        expected = client.post("/v1/predict?head=2", content=png(picture()), headers=PNG).json()
        for epoch, part in enumerate(PARTS, 2):
            copy(BACKUP.replace(" ".join(PARTS), part), tmp_path / "store", tmp_path / "backup")
            learn(client, epoch)
    assert log_of(tmp_path / "backup") == [1, 2]
    assert asyncio.run(verify(Store.open(tmp_path / "backup"))).sound
    copy(RESTORE, tmp_path / "restored", tmp_path / "backup")

    with running(make_settings(tiny_bundle, tmp_path / "restored")) as client:
        answer = client.post("/v1/predict", content=png(picture()), headers=PNG).json()
        assert answer["head"] == expected["head"]
        assert answer["predictions"] == expected["predictions"]
        assert client.get("/v1/lines/lab-a").json()["activation"]["kind"] == "create"
        assert log_of(tmp_path / "restored") == [1, 2]  # nothing had to be put right
        assert learn(client, 9) > 2
        assert client.post("/v1/heads/rollback").json()["head"] == 2
    assert asyncio.run(verify(Store.open(tmp_path / "restored"))).sound


def test_the_other_order_loses_the_live_head(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Heads before the log that names them: a server on that copy must fall back to an older head, and says so."""
    with serve() as client:
        learn(client, 1)
        for epoch, part in enumerate(("heads", "activations"), 2):
            copy(BACKUP.replace(" ".join(PARTS), part), tmp_path / "store", tmp_path / "backup")
            learn(client, epoch)

    assert log_of(tmp_path / "backup") == [1, 2, 3]
    with running(make_settings(tiny_bundle, tmp_path / "backup")) as client:
        assert client.get("/v1/activations").json()["activations"][0]["actor"] == "server"
        assert client.post("/v1/predict", content=png(picture()), headers=PNG).json()["head"]["version"] == 2


def test_a_copy_in_the_middle_of_a_refit_is_whole(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The refit is interrupted in the copy, and goes on in the original."""
    with serve("hangs", str(tmp_path / "pid")) as client:
        job = client.post("/v1/refit", json={"snapshots": [upload(client)]}).json()["id"]
        until(client, job)
        copy(BACKUP, tmp_path / "store", tmp_path / "backup")
        client.delete(f"/v1/refit/{job}")
    with running(make_settings(tiny_bundle, tmp_path / "backup")) as client:
        state = client.get(f"/v1/refit/{job}").json()["state"]

    assert state == "interrupted"
    assert asyncio.run(verify(Store.open(tmp_path / "backup"))).sound


def test_a_copy_under_a_storm_of_swaps_is_whole(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Heads go live as fast as they can while the page's line runs twice, as the page says."""
    stop, failures = threading.Event(), list[Any]()
    with serve() as client:
        learn(client, 1)

        def swap() -> None:
            version = 1
            while not stop.is_set():
                answer = client.post(f"/v1/heads/{version}/activate")
                failures.extend([] if answer.is_success else [answer.text])
                version = 3 - version

        thread = threading.Thread(target=swap)
        thread.start()
        for _ in range(2):
            copy(BACKUP, tmp_path / "store", tmp_path / "backup")
        stop.set()
        thread.join()
    copied, whole = log_of(tmp_path / "backup"), log_of(tmp_path / "store")

    assert not failures
    assert copied == whole[: len(copied)]
    assert asyncio.run(verify(Store.open(tmp_path / "backup"))).sound
    with running(make_settings(tiny_bundle, tmp_path / "backup")) as client:
        answer = client.post("/v1/predict", content=png(picture()), headers=PNG).json()
        assert answer["head"]["version"] == copied[-1]
