"""Requests as OpenTelemetry spans, sent to a collector in the background; the extra `otel`.

A span goes on with the trace that the request's `traceparent` names, and carries what the log line has: head version,
batch size, the milliseconds of each part. It knows nothing of what a request is about.
"""

from collections.abc import Mapping
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError


class TracesMissing(BreadcrumbsError):
    """Traces are asked for and the extra is not installed."""


class Traces:
    """Sends spans.

    Args:
        endpoint: of a collector, OTLP over HTTP, as `http://collector:4318/v1/traces`.

    Raises:
        TracesMissing: the extra `otel` is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise TracesMissing(
                f"otlp_endpoint is set, but {error.name} is not installed: pip install 'breadcrumbs-longtail[otel]'"
            ) from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "breadcrumbs"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("breadcrumbs.serving")
        self._context = TraceContextTextMapPropagator()

    def record(self, traceparent: str, began: int, ended: int, line: Mapping[str, Any]) -> str:
        """Record one answered request and return the id of its trace, in hex.

        Args:
            traceparent: the request's header; may be empty, and then a new trace begins.
            began, ended: nanoseconds since 1970.
            line: `method`, `route`, `status`, and whatever else its log line has.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode

        known = {"method": "http.request.method", "route": "http.route", "status": "http.response.status_code"}
        known |= {"path": "url.path", "client": "client.address"}
        attributes = {known.get(name, f"breadcrumbs.{name}"): value for name, value in line.items()}
        span = self._tracer.start_span(
            f"{line['method']} {line['route']}",
            self._context.extract({"traceparent": traceparent}),
            SpanKind.SERVER,
            attributes,
            start_time=began,
        )
        if line["status"] >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)
        return f"{span.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()
