"""docs/api.md: it is what the code says, and every example of it does what it shows, on a real server."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from page_examples import DOCS, compare, differences, examples, parsed, sections
from refits import finish
from running import make_settings, running
from tiny import picture, png, tiny_snapshot, write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.client import Client

ROOT = DOCS.parent
PAGE = (DOCS / "api.md").read_text()
SECTIONS = sections("api.md")
AFTER_A_REFIT = re.compile(r"/v1/(refit|heads|activations|trials)|/readyz")
"""Routes whose examples are shown on a server that has refitted once: head 2 is live."""
ON_A_SLOW_SERVER = ("DELETE /v1/refit/{job_id}", "POST /v1/refit/{job_id}/restart")
"""… and on one whose refits do not end."""
REMEMBERING = re.compile(r"/v1/(answers|labels|examples|queue|classes)")
"""… and on one that remembers its answers, has given one, and knows an example."""
BACKBONE = "0d69bdec99e8…"
ANSWER, EXAMPLE = "01KB4M2ZQ8H3V0W6T1R9S5XKCD", "01273361199091edebd37441598b1b3c"
REFIT, CANCELLED = "20261123T064028-d00e3b85", "20261123T162843-ec7f9b34"

with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, with a sample."""
    plain = write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    return bundles.write(plain.folder, plain.manifest, files | {"samples/0-0.png": png(picture(0))})


def lay_out(folder: Path, bundle: Bundle) -> None:
    """The files that the examples send."""
    for seed, name in enumerate(("tree", "one", "two")):
        (folder / f"{name}.png").write_bytes(png(picture(seed)))
    backbone = bundle.backbone_digest
    (folder / "new.safetensors").write_bytes(snapshots.to_bytes(tiny_snapshot(backbone)))
    (folder / "held.safetensors").write_bytes(snapshots.to_bytes(tiny_snapshot(backbone, 7)))
    drawn = tiny_snapshot(backbone)
    np.savez(folder / "new.npz", features=drawn.features.astype(np.float64), labels=drawn.labels)
    image = picture(0)[None].tolist()
    request = {"inputs": [{"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": image}]}
    (folder / "request.json").write_text(json.dumps(request))


def prepared(name: str, client: httpx.Client) -> dict[str, str]:
    """Bring a server to where a section's examples begin; what stands on the page for what is there."""
    client.put("/v1/snapshots", content=(Path.cwd() / "new.safetensors").read_bytes()).raise_for_status()
    known = {BACKBONE: client.get("/v1/heads/1").json()["backbone"]}
    if name in ON_A_SLOW_SERVER:
        with Client(str(client.base_url)) as mine:
            known[REFIT] = mine.refit().id
            if name.endswith("restart"):
                known[CANCELLED] = mine.cancel(known[REFIT]).id
    elif AFTER_A_REFIT.search(name):
        sha = client.get("/v1/snapshots").json()["snapshots"][0]["sha256"]
        known[REFIT] = finish(client, {"snapshots": [sha], "spec": {"seed": 1}})["id"]
    if "/v1/priors" in name and not name.startswith("PUT"):
        client.put("/v1/priors/bavaria", json={"weights": {"oak": 3, "elm": 1}}).raise_for_status()
    if "/v1/trials" in name and not name.startswith("POST"):
        client.post("/v1/trials", json={"head": 1}).raise_for_status()
    if "/v1/lines" in name and not name.startswith("PUT"):
        client.put("/v1/lines/lab-a", json={"head": 1}).raise_for_status()
    if REMEMBERING.search(name):
        answer = client.post("/v1/predict?ref=tree.png", files=[("image", (Path.cwd() / "tree.png").read_bytes())])
        known[ANSWER] = answer.json()["predictions"][0]["id"]
        if name not in {"POST /v1/labels", "GET /v1/queue"}:
            label = {"answer": known[ANSWER], "class": "elm", "by": "ann", "verified": True}
            made = client.post("/v1/labels", json={"labels": [label]}).raise_for_status().json()
            known[EXAMPLE] = made["labels"][0]["example"]
    if name in {"POST /v1/heads/{version}/activate", "GET /v1/activations"}:
        client.post("/v1/heads/rollback").raise_for_status()
    if name == "GET /v1/activations":
        client.post("/v1/heads/2/activate", json={"reason": "labels mended"}).raise_for_status()
    if name == "GET /metrics":
        client.post("/v1/predict", content=png(picture(0)), headers={"content-type": "image/png"}).raise_for_status()
    return known


def run(command: str, address: str, known: dict[str, str]) -> str:
    """What a command prints."""
    for shown, real in known.items():
        command = command.replace(shown, real)
    for shown, real in (("localhost:8000", address), ("iVBORw0KGgo…", image_text()), ("curl ", "curl --noproxy '*' ")):
        command = command.replace(shown, real)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def image_text() -> str:
    """tree.png in base64."""
    return base64.b64encode(png(picture(0))).decode()


@with_curl
@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_every_example_does_what_it_shows(
    name: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By curl, as it stands on the page; only the address, and names that the server chose, are put in."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, bundle)
    mode = ("hangs", str(tmp_path / "pid")) if name in ON_A_SLOW_SERVER else ()
    more = {"remember": 100} if REMEMBERING.search(name) else {}
    with running(make_settings(bundle, tmp_path / "store", **more), *mode) as client:
        known = prepared(name, client)
        address = f"{client.base_url.host}:{client.base_url.port}"
        shown = examples(SECTIONS[name])
        if name == "PUT /v1/snapshots":
            client.delete(f"/v1/snapshots/{client.get('/v1/snapshots').json()['snapshots'][0]['sha256']}")
        for command, answer in shown:
            wrong = differences(answer, run(command, address, known))
            assert wrong == [], command
    assert shown


@with_curl
def test_the_example_of_an_error_does_what_it_shows(bundle: Bundle, tmp_path: Path) -> None:
    """The one shape."""
    text = PAGE.partition("## Errors")[2].partition("\n## ")[0]
    with running(make_settings(bundle, tmp_path / "store")) as client:
        ((command, answer),) = examples(text)
        assert differences(answer, run(command, f"{client.base_url.host}:{client.base_url.port}", {})) == []


@pytest.mark.slow
def test_the_python_examples_run(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both clients, and Triton's on the demo bundle."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, bundle)
    sync, later, images, triton = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    printed = []
    for one, text in (
        (bundle, sync),
        (bundle, later),
        (bundle, images),
        (bundles.read(ROOT / "models" / "demo"), triton),
    ):
        with running(make_settings(one, tmp_path / f"store-{len(printed)}")) as client:
            code = text.replace("localhost:8000", f"{client.base_url.host}:{client.base_url.port}")
            exec(compile(code, "docs/api.md", "exec"), {"__name__": "__main__"})
            live = client.get("/v1/heads").json()["live"]
        printed.append((capsys.readouterr().out, live))

    assert "by head 1" in printed[0][0]
    assert "404 not_found there is no head 99" in printed[0][0]
    assert printed[0][1] == 2
    assert printed[1][0].splitlines()[-1] == "succeeded"
    assert printed[2][0].splitlines()[1:] == ["1", "(100, 4) oak"]
    assert printed[3][0].startswith("[[")


@pytest.mark.slow
def test_the_example_of_the_readme_runs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predict, upload, refit."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, bundle)
    for name in ("boot.png", "bag.png"):
        (tmp_path / name).write_bytes(png(picture(0)))
    (text,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    with running(make_settings(bundle, tmp_path / "store")) as client:
        code = text.replace("localhost:8000", f"{client.base_url.host}:{client.base_url.port}")
        exec(compile(code, "README.md", "exec"), {})

    assert capsys.readouterr().out.splitlines() == [
        "['Wollemia nobilis', 'Wollemia nobilis']", "activated: the gate says yes",
    ]  # fmt: skip


def test_the_page_is_what_the_code_says() -> None:
    """Parameters, bodies, answers and errors of every route; `make reference` writes them."""
    line = [sys.executable, "docs/reference.py", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_links_into_the_page_arrive() -> None:
    """Every anchor that this page and others name is a heading here."""
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    wanted = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        wanted |= set(re.findall(r"api\.md#([\w-]+)\)", page.read_text()))

    assert wanted
    assert wanted <= anchors


def test_the_comparison_of_examples_finds_what_is_wrong() -> None:
    """Values, keys and lines; what is left out is not missed."""
    real = {"a": 1, "b": [1, 2], "c": "abcdef", "d": {"e": None}}

    assert compare(parsed('{"a": 1, "b": [1, …], "c": "abc…", …}'), real, "") == []
    assert compare(parsed('{"a": …, "b": […], "c": "abcdef", "d": {…}}'), real, "") == []
    assert len(compare(parsed('{"a": 2, "b": [1], "c": "b…", "d": {"e": true}, "z": 1}'), real, "")) == 5
    assert len(compare(parsed('{"a": 1}'), real, "")) == 3
    assert differences("id: 3\nevent: x\n", "id: 2\nid: 3\r\nevent: x\n") == []
    assert differences("event: x\nid: 3\n", "id: 3\nevent: x\n") == ["not printed: 'id: 3'"]
