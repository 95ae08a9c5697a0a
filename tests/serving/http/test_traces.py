"""Requests as spans, received by a real collector: an HTTP server that reads OTLP."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.http.traces import Traces, TracesMissing

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(HTTPServer):
    """Keeps every span that comes."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        super().__init__(("127.0.0.1", 0), Receiver)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Receiver(BaseHTTPRequestHandler):
    """Reads one export."""

    server: Collector

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            data = gzip.decompress(data)
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    with Collector() as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join(10)


def test_a_request_is_a_span_of_its_trace(serve: Serve, collector: Collector) -> None:
    """With route, status and the numbers of its log line; an error is marked; all have arrived when the server ends."""
    with serve(otlp_endpoint=collector.url) as client:
        headers = {"content-type": "image/png", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        client.post("/v1/predict", content=png(picture()), headers=headers)
        client.post("/v1/predict", content=b"", headers={"content-type": "image/png"})

    good, bad = collector.spans
    found = {item.key: item.value for item in good.attributes}
    assert good.name == "POST /v1/predict"
    assert good.trace_id.hex() == TRACE
    assert bad.trace_id.hex() != TRACE
    assert 0 < good.end_time_unix_nano - good.start_time_unix_nano < 60e9
    assert found["http.response.status_code"].int_value == 200
    assert (found["breadcrumbs.head"].int_value, found["breadcrumbs.batch_size"].int_value) == (1, 1)
    assert {item.key: item.value.string_value for item in bad.attributes}["breadcrumbs.problem"] == "bad_request"


def test_without_the_extra_the_server_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, not at the first request."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(TracesMissing, match=r"not installed: pip install 'breadcrumbs-longtail\[otel\]'"):
        Traces("http://127.0.0.1:1/v1/traces")
