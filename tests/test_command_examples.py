"""docs/commands.md: every example of `--json` run, in order, and what it prints compared with what is shown."""

import base64
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import forked
import httpx
import numpy as np
import pytest
from listed_commands import PRINTS_NOTHING, commands
from page_examples import DOCS, differences, examples, sections
from running import make_settings, running
from tiny import picture, png, tiny_snapshot, write_bundle

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots

ROOT = DOCS.parent
SECTIONS = sections("commands.md")
ASKING = ("heads", "lines", "trials", "examples", "refit --server", "predict tree.png")
"""Commands that ask the server, which is at another address here."""
ELSEWHERE = {"breadcrumbs demo", "breadcrumbs cluster up", "breadcrumbs cluster status", "breadcrumbs cluster down"}
"""Examples that this does not run: the demo trains in full, the cluster's take minutes."""
SHORTER = {"train": ["--epochs", "1"]}


@pytest.fixture(scope="module")
def folder(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run, with the files that they take."""
    place = tmp_path_factory.mktemp("commands")
    (place / "models").symlink_to(ROOT / "models")
    write_bundle(place / "better")
    (place / "tree.png").write_bytes(png(picture()))
    (place / "new.safetensors").write_bytes(snapshots.to_bytes(tiny_snapshot(tiny_bundle.backbone_digest)))
    np.savez(place / "new.npz", features=np.ones((12, 64), np.float32), labels=np.arange(12) % 10)
    return place


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, folder: Path) -> Iterator[httpx.Client]:
    """The server that is asked."""
    with running(make_settings(tiny_bundle, folder / "store")) as client:
        label = {"image": base64.b64encode(png(picture())).decode(), "class": "oak"}
        client.post("/v1/labels", json={"labels": [label]}).raise_for_status()
        yield client


def run(command: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page."""
    words = shlex.split(command.replace("http://127.0.0.1:8000", url))[1:]
    if command.startswith(tuple(f"breadcrumbs {word}" for word in ASKING)) and "--server" not in words:
        words += ["--server", url]
    words += SHORTER.get(words[0], [])
    return forked.command(*words, folder=folder, environment=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in ELSEWHERE])
def test_every_command_prints_the_json_that_the_page_shows(name: str, folder: Path, server: httpx.Client) -> None:
    """All of its fields, and their values where they do not depend on the run."""
    shown = examples(SECTIONS[name])
    for command, answer in shown:
        done = run(command, folder, str(server.base_url))
        assert done.returncode == 0, done.stderr[-3000:]
        assert differences(answer, done.stdout) == [], command

    assert shown


def test_the_error_is_as_shown(tmp_path: Path) -> None:
    """With status 2."""
    text = (DOCS / "commands.md").read_text().partition("## JSON")[2].partition("\n### ")[0]
    ((command, answer),) = examples(text)
    done = run(command, tmp_path, "")

    assert done.returncode == 2
    assert differences(answer, done.stdout) == []


def test_every_command_with_json_has_its_section() -> None:
    """And none is about a command that is not there."""
    assert {f"breadcrumbs {name}" for name in commands() - {"examples", "store", "cluster"} - PRINTS_NOTHING} == set(
        SECTIONS
    )
