"""A refit on a server from files here to files here; the server is real, its child a fake."""

import json
from pathlib import Path
from typing import Any

import pytest
from forked import command
from running import Serve
from tiny import CLASSES, tiny_snapshot

from breadcrumbs.models import head as heads
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.client.refit import refit
from breadcrumbs.training.config import RefitSpec


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three snapshots."""
    found = [tmp_path / f"{epoch}.safetensors" for epoch in (2, 3, 4)]
    for epoch, path in enumerate(found, 2):
        snapshots.write(path, tiny_snapshot("b" * 64, epoch))
    return found


def test_a_refit_there_leaves_head_and_report_here(serve: Serve, paths: list[Path], tmp_path: Path) -> None:
    """Snapshots up, events heard in order, and the head that is now live, report and page in the folder."""
    heard: list[dict[str, Any]] = []
    with serve() as http, Client(str(http.base_url)) as client:
        report, verdict = refit(client, paths[:2], paths[2], RefitSpec(seed=7), tmp_path / "out", heard.append)
        job = client.jobs()[0]
        digest = client.head(2).digest
        live = client.heads().live

    out = tmp_path / "out"
    assert (verdict.head, verdict.activated, live) == (2, True, 2)
    assert job.request.spec.seed == 7
    assert len(job.request.snapshots) == 2
    assert job.request.holdout is not None
    assert [e.get("stage", e.get("state", e["event"])) for e in heard] == [
        *["upload"] * 4, f"refit {job.id}", "queued", "running", "read", "progress", "live", "succeeded",
    ]  # fmt: skip
    sizes = [(path.name, path.stat().st_size) for path in paths]
    assert [(e["file"], e["bytes"], e["of"]) for e in heard if e["event"] == "upload"] == [(n, s, s) for n, s in sizes]
    assert heads.read(out / "head.safetensors").digest == digest
    assert heads.from_onnx((out / "head.onnx").read_bytes()).classes == CLASSES
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / "report.html").read_text() == "<script>alert(1)</script>"


def test_a_report_that_fails_there_is_no_error_here(serve: Serve, paths: list[Path], tmp_path: Path) -> None:
    """The head is fetched, and the verdict says why there is no report."""
    with serve("crashes-late") as http, Client(str(http.base_url)) as client:
        report, verdict = refit(client, paths, None, RefitSpec(), tmp_path / "out", lambda _: None)

    assert report is None
    assert (verdict.head, verdict.activated) == (2, True)
    assert "there is no report: the refit's process failed" in verdict.note
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"head.safetensors", "head.onnx"}


def test_a_head_that_the_gate_refuses_is_no_error(serve: Serve, paths: list[Path], tmp_path: Path) -> None:
    """The refit did what it should: the verdict says why the head is not live."""
    with serve("worse") as http, Client(str(http.base_url)) as client:
        _, verdict = refit(client, paths, None, RefitSpec(), tmp_path / "out", lambda _: None)

    assert not verdict.activated
    assert verdict.note == "not activated: the gate says no: few fell by 0.2"
    assert (tmp_path / "out/head.onnx").exists()


def test_a_refit_that_fails_there_is_an_error_here(serve: Serve, paths: list[Path], tmp_path: Path) -> None:
    """In the server's words; nothing is left."""
    said = r"refit .* failed: class 'elm' has 1 example"
    with (
        serve("mistake") as http,
        Client(str(http.base_url)) as client,
        pytest.raises(ServerError, match=said) as refusal,
    ):
        refit(client, paths, None, RefitSpec(), tmp_path / "out", lambda _: None)

    assert refusal.value.kind == "refit"
    assert not (tmp_path / "out").exists()


def test_the_command_line_tells_how_far_it_is(serve: Serve, paths: list[Path]) -> None:
    """Lines where there is no terminal, the heads and the verdict at the end, status 0; or the events as JSON."""
    with serve() as http:
        line = ["refit", "--server", str(http.base_url), "--activate", "never"]
        line += ["--snapshot", str(paths[0]), "--holdout", str(paths[1])]
        text, as_json = command(*line), command(*line, "--json")

    assert (text.returncode, as_json.returncode) == (0, 0), text.stderr + as_json.stderr
    assert all(f"  {path.name}: 0.0 of 0.0 MB" in text.stderr for path in paths[:2])
    stored = "head 2 is stored (not activated: the spec says never); the report follows"
    assert f"running\nread\n  iteration 1: gradient norm 5.00e-01\n{stored}\nsucceeded" in text.stderr
    assert "head 2: not activated: the spec says never" in text.stdout
    events = [json.loads(one) for one in as_json.stdout.splitlines()]
    assert [one["event"] for one in events][-2:] == ["state", "done"]
    assert events[-1]["verdict"] == "head 3: not activated: the spec says never"


def test_a_snapshot_that_the_server_refuses_stops_it(serve: Serve, paths: list[Path], tmp_path: Path) -> None:
    """Before a job begins."""
    snapshots.write(tmp_path / "wide.safetensors", tiny_snapshot("b" * 64, 2, dim=5))
    with serve() as http, Client(str(http.base_url)) as client:
        with pytest.raises(ServerError, match=r"wide\.safetensors: .*dimension"):
            refit(client, [*paths, tmp_path / "wide.safetensors"], None, RefitSpec(), None, lambda _: None)
        jobs = client.jobs()

    assert jobs == []
