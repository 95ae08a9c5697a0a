"""The server as a process: what it loads, how it ends, what it says of itself; overload and departures."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from forked import started
from patience import PATIENCE
from running import Serve, make_settings, running
from tiny import SIDE, picture, png, tiny_backbone, tiny_head

from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.serving.app import run
from breadcrumbs.serving.predict.batcher import Batcher
from breadcrumbs.serving.predict.decoder import Decoder
from breadcrumbs.serving.predict.devices import EngineError, Wish
from breadcrumbs.serving.predict.engine import Engine, Row, Scores
from breadcrumbs.serving.predict.inference import FRESH, Inference, Item
from breadcrumbs.serving.refusals import Overloaded

ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}
TRANSFORM = Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
CUDA = Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "auto").device == "cuda"

WITHOUT_TORCH = """
import asyncio, sys
from pathlib import Path
import httpx
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.settings import Settings

async def main():
    app = create_app(Settings(bundle=Path(sys.argv[1]), store=sys.argv[2], device="cpu"))
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            answer = await client.post("/v1/predict", content=Path(sys.argv[3]).read_bytes(),
                                       headers={"content-type": "image/png"})
            assert answer.status_code == 200, answer.text
asyncio.run(main())
heavy = {"torch", "timm", "torchvision", "accelerate", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_server_never_imports_torch(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Not to start, and not to answer."""
    (tmp_path / "a.png").write_bytes(png(picture()))
    arguments = [str(tiny_bundle.folder), str(tmp_path / "store"), str(tmp_path / "a.png")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_sigterm_ends_the_server_in_order(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Exit status 0; settings come from the environment."""
    environment = os.environ | {
        "BREADCRUMBS_BUNDLE": str(tiny_bundle.folder), "BREADCRUMBS_STORE": str(tmp_path),
        "BREADCRUMBS_PORT": "0", "BREADCRUMBS_DEVICE": "cpu",
    }  # fmt: skip
    code = "from breadcrumbs.serving.app import run; from breadcrumbs.serving.settings import Settings; run(Settings())"
    with started(code=code, environment=environment) as program:
        program.tells(lambda told: "running on" in told)
        program.send(signal.SIGTERM)

        assert program.wait() == 0, program.err
        assert "Finished server process" in program.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_a_server_that_has_not_begun(tiny_bundle: Bundle, tmp_path: Path, workers: str) -> None:
    """Whatever it is at: importing, loading models, about to listen; and when the signal comes twice."""
    line = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(tiny_bundle.folder), "--device", "cpu"]
    line += ["--port", "0", "--workers", workers]
    begun = [
        subprocess.Popen([*line, "--store", str(tmp_path / str(n))], cwd=ROOT, stderr=subprocess.DEVNULL)
        for n in range(5)
    ]
    for process in begun:
        time.sleep(0.5)  # each at another moment, on machines of any speed
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)

    assert {process.wait(PATIENCE) for process in begun} <= {0, -signal.SIGTERM}


@pytest.mark.usefixtures("logging_as_before")
def test_a_bundle_that_is_not_there_is_told_in_one_sentence(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The error comes out of `run` as it is, for the command line to print."""
    settings = make_settings(tiny_bundle, tmp_path).model_copy(update={"bundle": tmp_path / "none"})
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(BundleError, match=r"no bundle at .*none: cannot read manifest.json"):
            run(settings)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(CUDA, reason="CUDA works here")
def test_cuda_that_cannot_be_used_is_an_error_with_its_reason() -> None:
    """Asked for by name, the server does not start without it; `auto` takes the CPU."""
    with pytest.raises(EngineError, match=r"device cuda was asked for, but CUDA cannot be used: \w"):
        Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cuda")

    with pytest.raises(EngineError, match=r"device tensorrt was asked for, but TensorRT cannot be used: \w"):
        Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "tensorrt")

    assert Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "auto").device == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="CUDA cannot be used here")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_the_gpu_gives_what_the_cpu_gives(device: Wish) -> None:
    """It is really used, its numbers are the CPU's, and a swapped head with more classes works there too."""
    gpu, cpu = (Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), where) for where in (device, "cpu"))
    gpu.warm_up(8)
    rows = [Row(picture(seed)) for seed in range(5)]
    grown = tiny_head(4, ("a", "b", "c", "d", "e"))

    assert gpu.device == "cuda"
    for one, other in zip(gpu.compute(rows), cpu.compute(rows), strict=True):
        np.testing.assert_allclose(one.feature, other.feature, atol=2e-3)
        np.testing.assert_allclose(one.logits, other.logits, atol=5e-3)
    gpu.swap(gpu.bind(2, grown))
    (scores,) = gpu.compute(rows[:1])
    np.testing.assert_allclose(scores.logits, grown.logits(scores.feature), atol=5e-3)


def test_health_readiness_and_the_way_to_the_documentation(client: httpx.Client) -> None:
    """Ready means that an inference came out a few seconds ago at most."""
    ready = client.get("/readyz").json()

    assert client.get("/healthz").json()["status"] == "alive"
    assert (ready["status"], ready["head"], ready["device"]) == ("ready", 1, "cpu")
    assert ready["proved_seconds_ago"] < FRESH + 1
    assert 'href="docs"' in client.get("/").text
    assert "swagger" in client.get("/docs").text


def test_an_engine_that_no_longer_answers_is_not_ready() -> None:
    """Readiness asks the engine itself, once its last answer is old, and passes on the reason."""

    async def main() -> None:
        engine = Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cpu", 1)

        def broken(rows: list[Item]) -> list[Scores]:
            raise EngineError(f"CUDA error 700 on a batch of {len(rows)}")

        batcher: Batcher[Item, Scores] = Batcher(broken, 4, 4)
        inference = Inference(Decoder(TRANSFORM, 100, Budget(), engine.compute), engine, batcher, 0, 4, 1.0)
        try:
            with pytest.raises(EngineError, match="CUDA error 700"):
                await inference.prove()
        finally:
            await asyncio.to_thread(batcher.close)
            inference.close()

    asyncio.run(main())


def test_what_is_over_the_queue_is_refused_with_a_time_to_try_again(serve: Serve) -> None:
    """503, Retry-After, and the numbers."""
    with serve(queue=2) as client:
        refused = client.post("/v1/predict", files=[("image", png(picture()))] * 3)

        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert "3 came; the limit is 2" in refused.text
        assert client.post("/v1/predict", content=png(picture()), headers=PNG).status_code == 200


@pytest.mark.parametrize("threads", [0, 2])
def test_a_deadline_that_cannot_be_kept_is_told(serve: Serve, threads: int) -> None:
    """The request is given up, not answered late, whoever decodes."""
    with serve(deadline=1e-9, decode_threads=threads) as client:
        refused = client.post("/v1/predict", content=png(picture()), headers=PNG)

    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
    assert "deadline" in refused.text


@pytest.mark.parametrize("threads", [0, 1])
def test_a_client_that_leaves_takes_its_images_with_it(threads: int) -> None:
    """Decoding and computing end when the request's task does, whoever decodes."""

    async def main() -> list[int]:
        sizes: list[int] = []
        engine = Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cpu", 1)
        held, free = threading.Event(), threading.Event()

        def compute(rows: Sequence[Row]) -> list[Scores]:
            sizes.append(len(rows))
            held.set()
            assert free.wait(10)
            return engine.compute(rows)

        decoder = Decoder(TRANSFORM, 100, Budget(), compute)
        batcher: Batcher[Item, Scores] = Batcher(decoder.compute, 4, 10)
        inference = Inference(decoder, engine, batcher, threads, 10, 10.0)
        stays = asyncio.create_task(inference.run([png(picture())]))
        await asyncio.to_thread(held.wait, 10)
        leaves = asyncio.create_task(inference.run([png(picture())] * 2))
        while batcher.pending < 2:  # noqa: ASYNC110 - decoding ends in a thread that tells nobody but `run`
            await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        free.set()
        await stays
        await asyncio.to_thread(batcher.close)
        inference.close()
        return sizes

    assert asyncio.run(main()) == [1]


def test_a_client_that_hangs_up_in_the_middle_hurts_nobody(client: httpx.Client) -> None:
    """Half a body, and a connection closed at once; the next request is answered."""
    for promised in (10_000, 100):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
            head = (
                f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {promised}\r\n\r\n"
            )
            connection.sendall(head.encode() + b"x" * 100)

    assert client.post("/v1/predict", content=png(picture()), headers=PNG).status_code == 200


def test_a_body_without_a_length_is_counted_as_it_comes(client: httpx.Client) -> None:
    """Chunked, it passes or fails by its real size."""

    def pieces() -> Iterator[bytes]:
        data = png(picture())
        for start in range(0, len(data), 50):
            yield data[start : start + 50]

    assert client.post("/v1/predict", content=pieces(), headers=PNG).status_code == 200


def test_request_ids_go_in_and_come_out(client: httpx.Client) -> None:
    """A sensible one is kept, another is replaced."""
    kept = client.get("/healthz", headers={"X-Request-ID": "order-66.a_b"})
    replaced = client.get("/healthz", headers={"X-Request-ID": "a b<script>"})

    assert kept.headers["x-request-id"] == "order-66.a_b"
    assert len(replaced.headers["x-request-id"]) == 32


def test_metrics_count_what_happened(serve: Serve) -> None:
    """Names, labels and values of the ones that operators watch."""
    with serve() as client:
        client.post("/v1/predict", files=[("image", png(picture(seed))) for seed in range(3)])
        client.post("/v1/predict", content=b"junk", headers=PNG)
        answer = client.get("/metrics")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert lines['breadcrumbs_requests_total{code="200",route="/v1/predict"}'] == "1.0"
    assert lines['breadcrumbs_rejected_total{reason="image"}'] == "1.0"
    assert lines['breadcrumbs_execution_provider_info{provider="cpu"}'] == "1.0"
    assert sum(float(n) for name, n in lines.items() if name.startswith("breadcrumbs_predictions_total{")) == 3
    assert float(lines["breadcrumbs_batch_size_sum"]) >= 3
    assert float(lines['breadcrumbs_request_duration_seconds_count{route="/v1/predict"}']) == 2
    for name in ("queue", "decode", "backbone", "head"):
        assert float(lines[f"breadcrumbs_{name}_duration_seconds_count"]) >= 1
    assert any(name.startswith('breadcrumbs_head_info{digest="') for name in lines)


def test_one_line_a_request_with_the_numbers_in_it(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Route, status, times, head, request id; none where it is switched off."""
    with caplog.at_level(logging.INFO, "breadcrumbs.access"):
        with serve(access_log="all") as client:
            client.post("/v1/predict", content=png(picture()), headers=PNG | {"X-Request-ID": "mine"})
        (line,) = [record.args for record in caplog.records if record.name == "breadcrumbs.access"]
        caplog.clear()
        with serve(access_log="none") as client:
            client.get("/healthz")

        assert [record for record in caplog.records if record.name == "breadcrumbs.access"] == []
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/predict", 200)
    assert (line["head"], line["images"], line["request_id"]) == (1, 1, "mine")
    assert {"ms", "queue_ms", "decode_ms", "compute_ms", "batch_size"} <= set(line)


def test_many_clients_at_once_are_all_answered(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Two hundred requests in flight: each gets an answer or a refusal, and the batches are shared."""
    with running(make_settings(tiny_bundle, tmp_path, queue=1000)) as client:

        async def ask() -> list[int]:
            async with httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE) as one:
                answers = await asyncio.gather(
                    *(one.post("/v1/predict", content=png(picture(n % 7)), headers=PNG) for n in range(200))
                )
            return [answer.status_code for answer in answers]

        assert set(asyncio.run(ask())) == {200}


def test_the_decoder_refuses_more_than_it_may_hold() -> None:
    """Images that wait to be decoded are bounded as those that wait to be computed are."""

    async def main() -> None:
        engine = Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cpu", 1)
        decoder = Decoder(TRANSFORM, 100, Budget(), engine.compute)
        batcher: Batcher[Item, Scores] = Batcher(decoder.compute, 4, 10)
        inference = Inference(decoder, engine, batcher, 1, 2, 10.0)
        try:
            with pytest.raises(Overloaded, match="0 images are being decoded and 3 came; the limit is 2"):
                await inference.run([png(picture())] * 3)
        finally:
            await asyncio.to_thread(batcher.close)
            inference.close()

    asyncio.run(main())


def test_docs_need_no_internet(serve: Serve) -> None:
    """The page of routes and everything it loads come from this server."""
    with serve() as client:
        page = client.get("/docs")
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = [client.get(url).status_code for url in loaded]
        other = client.get("/redoc").status_code

    assert page.status_code == 200
    assert len(loaded) >= 3
    assert all(url.startswith("/") for url in loaded)
    assert answers == [200] * len(loaded)
    assert other == 404
