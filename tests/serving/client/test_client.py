"""The typed client, against a real server and against one that is not there."""

import httpx
import pytest
from running import Serve
from tiny import CLASSES, picture, png

from breadcrumbs.models import head as heads
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.client import Client, Retries, ServerError
from breadcrumbs.training.config import RefitSpec


def test_every_method_does_what_it_says(serve: Serve, tmp_path) -> None:
    """From an image to a refitted head and back again."""
    (tmp_path / "a.png").write_bytes(png(picture(1)))
    images = [tmp_path / "a.png", png(picture(2))]
    with serve() as server, Client(str(server.base_url)) as client:
        predicted = client.predict(images, top_k=1)
        assert len(predicted.predictions) == 2
        assert predicted.predictions[0].classes[0].name in CLASSES
        assert client.predict(images, head=1).head.version == 1
        found = client.features(images)
        assert len(found.features[1]) == 4
        assert client.predict_features(found).predictions == client.predict_features(found.features).predictions
        assert len(client.predict_features(found.features[0], top_k=1, head=1).predictions) == 1

        path = tmp_path / "new.safetensors"
        path.write_bytes(client.snapshot(images, ["oak", 2], 9))
        assert snapshots.read(path).labels.tolist() == [0, 2]
        stored = client.put_snapshot(path)
        assert [one.sha256 for one in client.snapshots()] == [stored.sha256]

        job = client.refit([stored.sha256], RefitSpec(activate="never"), key="k")
        assert client.refit([stored.sha256], RefitSpec(activate="never"), key="k").id == job.id
        assert next(client.events(job.id, after=1))["id"] == 2
        done = client.wait(job.id)
        assert (done.state, done.report is not None, client.jobs()[0].id) == ("succeeded", True, job.id)

        assert client.activate(2, "better", expected_live=1).head == 2
        assert client.heads().live == 2
        assert heads.from_onnx(client.head_onnx(2)).digest == client.head(2).digest
        assert client.rollback("worse").head == 1
        assert [one.head for one in client.activations()] == [1, 2, 1]
        assert (client.alive().status, client.ready().status) == ("alive", "ready")
        assert client.samples() == []
        assert "breadcrumbs_head_swaps_total" in client.metrics()
        assert b"<script>" in client.report_page(job.id)
        with pytest.raises(ServerError, match="only an interrupted, failed or cancelled one can be restarted"):
            client.restart(job.id)
        assert client.snapshot_record(stored.sha256) == stored
        client.delete_snapshot(stored.sha256)
        assert client.snapshots() == []


def test_a_refusal_is_raised_in_the_servers_words(serve: Serve) -> None:
    """With its status and type, from streams too."""
    with serve() as server, Client(str(server.base_url)) as client:
        with pytest.raises(ServerError, match="there is no head 9") as refusal:
            client.head(9)
        with pytest.raises(ServerError, match="there is no refit 'x'"):
            client.wait("x")
        with pytest.raises(ServerError, match="there is no refit 'x'"):
            client.cancel("x")

    assert (refusal.value.status, refusal.value.kind) == (404, "not_found")


def test_a_server_that_is_not_there_is_told() -> None:
    """With the address that was tried."""
    with (
        Client("http://127.0.0.1:9", retries=0) as client,
        pytest.raises(ServerError, match=r"no answer from http://127.0.0.1:9"),
    ):
        client.heads()


def test_an_answer_that_is_not_ours_is_told() -> None:
    """A proxy's page is quoted, not parsed."""
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<h1>Bad gateway</h1>"))
    said = "answered 502: '<h1>Bad"
    with Client("http://x", transport=transport, retries=0) as client, pytest.raises(ServerError, match=said):
        client.heads()


@pytest.mark.parametrize("body", [b"<h1>Log in</h1>", b'{"heads": 3}', b"\xff"])
def test_an_answer_of_somebody_else_is_told(body: bytes) -> None:
    """A page for people under the status of success is no list of heads."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with (
        Client("http://x", transport=transport) as client,
        pytest.raises(ServerError, match="expected the answer of a Breadcrumbs server"),
    ):
        client.heads()


def test_a_broken_event_stream_is_taken_up_again() -> None:
    """After the last event seen, and not for ever."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["last-event-id"])
        if len(asked) == 1:
            return httpx.Response(200, stream=Breaking(b'data: {"id": 1}\n\ndata: {"id": 2}\n\n'))
        if len(asked) == 2:
            return httpx.Response(200, text='data: {"id": 3}\n\n')
        raise httpx.ConnectError("gone")

    retries = Retries(most=4, first=0.001)
    with Client("http://x", transport=httpx.MockTransport(answer), retries=retries) as client:
        assert [event["id"] for event in client.events("j")] == [1, 2, 3]
        with pytest.raises(ServerError, match="the events of refit j broke off"):
            list(client.events("j"))

    assert asked == ["0", "2"] + ["0"] * 5


class Breaking(httpx.SyncByteStream):
    """A stream that breaks after its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self):
        yield self._data
        raise httpx.ReadError("broken")
