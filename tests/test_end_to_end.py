"""The embedded bundle behind a real server, real images in, real refits by the real child process, over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forked import command
from numpy.typing import NDArray
from running import make_settings, running
from tiny import png

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import softmax
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.data.dataset import Split, load
from breadcrumbs.training.terminal.refit_events import STAGES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
IMAGES = 200


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The bundle that comes with the package."""
    return bundles.read(ROOT / "models" / "demo")


@pytest.fixture(scope="module")
def images() -> Split:
    """Some of the embedded test images, every class among them."""
    test = load(TrainConfig()).test
    return test.take(np.random.default_rng(0).permutation(len(test))[:IMAGES])


@pytest.fixture(scope="module")
def url(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the embedded bundle whose refits are `python -m breadcrumbs refit`."""
    settings = make_settings(bundle, tmp_path_factory.mktemp("store"), max_images=IMAGES)
    with running(settings, command=REFIT) as http:
        yield str(http.base_url)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    """The public client."""
    with Client(url) as one:
        yield one


def reference(bundle: Bundle, images: Split) -> NDArray[np.float64]:
    """Probabilities (N, C) by ONNX Runtime and numpy alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.backbone(), providers=["CPUExecutionProvider"])
    pixels = np.stack([images.image(row) for row in range(len(images))])
    return softmax(bundle.head().logits(session.run(None, {"image": pixels})[0]))


def answered(client: Client, images: Split, head: str | int = "active") -> tuple[NDArray[np.float64], int]:
    """Probabilities (N, C) over HTTP, and the head that answered."""
    answer = client.predict([png(images.image(row)) for row in range(len(images))], top_k=10, head=head)
    found = np.zeros((len(images), 10))
    for row, prediction in enumerate(answer.predictions):
        for ranked in prediction.classes:
            found[row, ranked.index] = ranked.probability
    return found, answer.head.version


def test_http_answers_as_onnx_runtime_does(client: Client, bundle: Bundle, images: Split) -> None:
    """What comes over HTTP is what ONNX Runtime and numpy compute, and right as often as the manifest says."""
    expected = reference(bundle, images)

    over_http, version = answered(client, images)

    assert np.abs(over_http - expected).max() < 1e-4
    assert version == 1
    right = (over_http.argmax(1) == images.labels).mean()
    assert right == pytest.approx(bundle.manifest.metrics["balanced"]["all"], abs=0.08)
    assert right > 0.7


def test_refit_over_http_goes_live_and_back(client: Client, bundle: Bundle, images: Split, tmp_path: Path) -> None:
    """Snapshots up, a refit by the real child, the new head live and answering, then a rollback to the old one."""
    half = images.take(np.arange(IMAGES // 2))
    answer = client.features([png(half.image(row)) for row in range(len(half))])
    holdout = Snapshot(
        np.array(answer.features, np.float32), half.labels, bundle.manifest.classes, answer.backbone, 1000
    )
    snapshots.write(tmp_path / "holdout.safetensors", holdout)
    stored = [client.put_snapshot(p) for p in sorted((bundle.folder / "snapshots").glob("*"))[-3:]]
    held = client.put_snapshot(tmp_path / "holdout.safetensors")
    before, _ = answered(client, images)

    job = client.refit([s.sha256 for s in stored], RefitSpec(activate="always"), held.sha256)
    events = list(client.events(job.id))
    done = client.job(job.id)
    after, version = answered(client, images)

    assert done.state == "succeeded", done.error
    assert done.report is not None
    assert sum(part["share"] for part in done.report["members"]) == 1
    assert done.report["solver"]["converged"]
    assert done.verdict is not None
    assert done.verdict.activated
    assert {e.get("stage") for e in events} >= set(STAGES)
    assert version == done.verdict.head == 2
    assert not np.allclose(before, after)
    record = client.head(2)
    assert record.lineage.parent == 1
    rolled = client.rollback("test")
    assert rolled.head == 1
    assert np.allclose(answered(client, images)[0], before, atol=1e-6)
    assert np.allclose(answered(client, images, head=2)[0], after, atol=1e-6)


def test_a_childs_refusal_reaches_the_caller(client: Client, bundle: Bundle, tmp_path: Path) -> None:
    """A class that is not allowed to appear fails the refit with the child's own sentence, and nothing goes live."""
    live = client.heads().live
    newest = bundle.snapshots()[0]
    strange = Snapshot(np.array(newest.features[:4]), np.zeros(4, np.int64), ("clog",), bundle.backbone_digest, 77)
    snapshots.write(tmp_path / "clog.safetensors", strange)

    job = client.refit([client.put_snapshot(tmp_path / "clog.safetensors").sha256])
    done = client.wait(job.id)

    assert done.state == "failed"
    assert done.error is not None
    assert "clog; set allow_new_classes" in done.error.message
    assert client.heads().live == live


def test_the_command_line_speaks_to_the_server(url: str, bundle: Bundle, images: Split, tmp_path: Path) -> None:
    """predict, heads, heads activate and heads rollback do what the API does."""
    (tmp_path / "one.png").write_bytes(png(images.image(0)))

    text = command("predict", str(tmp_path / "one.png"), "--server", url)
    as_json = command("predict", str(tmp_path / "one.png"), "--server", url, "--json")
    listed = command("heads", "--server", url)
    activated = command("heads", "activate", "2", "--server", url, "--reason", "by hand", "--json")
    rolled = command("heads", "rollback", "--server", url, "--json")
    refused = command("heads", "activate", "999", "--server", url)

    assert text.returncode == 0, text.stderr
    assert "one.png" in text.stdout
    assert len(json.loads(as_json.stdout)["predictions"][0]["classes"]) == 3
    assert "●" in listed.stdout
    assert f"{100 * bundle.manifest.metrics['balanced']['balanced']:.1f}" in listed.stdout
    assert json.loads(activated.stdout)["head"] == 2
    assert json.loads(activated.stdout)["reason"] == "by hand"
    assert json.loads(rolled.stdout)["head"] == 1
    assert refused.returncode == 2
    assert "999" in refused.stderr


def test_the_client_says_when_nobody_is_there() -> None:
    """Without a server the error names the address."""
    with Client("http://127.0.0.1:9") as nobody, pytest.raises(ServerError, match="no answer from http"):
        nobody.heads()


def test_the_demo_does_not_talk_to_a_stranger(url: str, tmp_path: Path) -> None:
    """Where another server has the port, the demo says so before it trains."""
    port = url.rpartition(":")[2]

    answer = command("demo", "--out", str(tmp_path / "demo"), "--port", port, "--no-stay")

    assert answer.returncode == 2
    assert f"port {port} is taken" in answer.stderr
    assert not (tmp_path / "demo").exists()
