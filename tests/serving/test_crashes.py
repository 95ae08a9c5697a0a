"""`kill -9` of the server at every write of a refit's way to a live head: nothing lost, nothing half, one head live."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from running import make_settings, running
from test_refit import upload
from tiny import picture, png

from models.bundle import Bundle
from serving.store import Store
from serving.upkeep import verify

SERVER = str(Path(__file__).parent / "crashing_server.py")
STEPS = [
    (when, name, count)
    for name, count in (
        ("snapshots/.*safetensors", 1), ("snapshots/.*json", 1), ("refits/.*/request.json", 1),
        ("refits/.*/events.jsonl", 1), ("refits/.*/events.jsonl", 2), ("refits/.*/report.json", 1),
        ("refits/.*/report.html", 1), ("heads/000002/head.safetensors", 1), ("heads/000002/head.onnx", 1),
        ("heads/000002/head.json", 1), ("activations/00000002.json", 1), ("refits/.*/events.jsonl", 5),
    )
    for when in ("before", "after")
]  # fmt: skip
"""Every write, in order; the fifth event is the last, `succeeded`."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until_dead(bundle: Bundle, store: Path, when: str, name: str, count: int) -> tuple[str | None, str | None]:
    """Upload, refit and activate on a server that dies on the way; what it acknowledged: snapshot, and job."""
    port, acknowledged = free_port(), [None, None]
    line = [sys.executable, SERVER, str(bundle.folder), str(store), str(port), when, name, str(count)]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").is_success:
                        break
                assert process.poll() is None, "it died before it was asked anything"
                time.sleep(0.02)
            with contextlib.suppress(httpx.TransportError):
                acknowledged[0] = upload(client)
                wanted = {"snapshots": [acknowledged[0]], "spec": {"activate": "always"}}
                acknowledged[1] = client.post("/v1/refit", json=wanted).json()["id"]
                while client.get(f"/v1/refit/{acknowledged[1]}").is_success:
                    time.sleep(0.01)
        assert process.wait(20) == -9
    return acknowledged[0], acknowledged[1]


@pytest.mark.parametrize(("when", "name", "count"), STEPS, ids=str)
def test_a_server_that_is_killed_anywhere_loses_nothing(
    tiny_bundle: Bundle, tmp_path: Path, when: str, name: str, count: int
) -> None:
    """The store verifies; one head is live and answers; what was acknowledged is there; a cut refit starts again."""
    store = tmp_path / "store"
    sha, job = until_dead(tiny_bundle, store, when, name, count)
    found = asyncio.run(verify(Store.open(store)))

    assert found.sound, found.findings
    with running(make_settings(tiny_bundle, store)) as client:
        listing, log = client.get("/v1/heads").json(), client.get("/v1/activations").json()["activations"]
        answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()
        assert listing["live"] == log[0]["head"] == answer["head"]["version"]
        assert listing["live"] in {head["version"] for head in listing["heads"]}
        if sha is not None:
            assert client.get(f"/v1/snapshots/{sha}").is_success
        jobs = client.get("/v1/refit").json()["refits"]
        assert job is None or job in {one["id"] for one in jobs}
        for one in jobs:
            assert one["state"] in {"interrupted", "succeeded"}
            assert (one["state"] == "succeeded") == any(h["lineage"]["refit"] == one["id"] for h in listing["heads"])
            if one["state"] == "succeeded":
                assert one["verdict"]["activated"] == (listing["live"] == one["verdict"]["head"])
                assert client.post(f"/v1/refit/{one['id']}/restart").status_code == 409
                continue
            again = client.post(f"/v1/refit/{one['id']}/restart")
            assert again.status_code == 202
            while (state := client.get(f"/v1/refit/{again.json()['id']}").json()["state"]) in {"queued", "running"}:
                time.sleep(0.01)
            assert state == "succeeded"
            assert client.get("/v1/heads").json()["live"] > listing["live"]
    assert asyncio.run(verify(Store.open(store))).sound


def test_a_dead_servers_child_dies_with_it(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It would hold memory and CPU for a head that nobody takes."""
    place, port = tmp_path / "pid", free_port()
    line = [sys.executable, SERVER, str(tiny_bundle.folder), str(tmp_path / "s"), str(port), "after", "never", "1"]
    program = Path(SERVER).read_text().replace('"fake_refit.py")]', f'"fake_refit.py"), "hangs", {str(place)!r}]')
    copy = tmp_path / "server.py"
    copy.write_text(program.replace("Path(__file__)", f"Path({SERVER!r})"))
    with subprocess.Popen([line[0], str(copy), *line[2:]], stderr=subprocess.DEVNULL) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    if client.post("/v1/refit", json={}).is_success:
                        break
                time.sleep(0.05)
            while not (place.exists() and place.read_text()):
                time.sleep(0.01)
        child = Path(f"/proc/{place.read_text()}/stat")
        assert child.exists()
        process.kill()
        process.wait(10)
        until = time.monotonic() + 10
        while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < until:
            time.sleep(0.02)

    assert not child.exists() or child.read_text().split()[2] == "Z"
