"""Sends one trace with OpenTelemetry's Zipkin exporters and prints its id.

usage: zipkin_otel.py v2-json|proto HOST:PORT
"""

import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode


def exporter_of(kind, endpoint):
    url = f"http://{endpoint}/api/v2/spans"
    if kind == "proto":
        from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
    else:
        from opentelemetry.exporter.zipkin.json import ZipkinExporter
    return ZipkinExporter(endpoint=url)


def main():
    kind, endpoint = sys.argv[1:]
    provider = TracerProvider(resource=Resource.create({"service.name": "Cart Service"}))
    provider.add_span_processor(BatchSpanProcessor(exporter_of(kind, endpoint)))
    tracer = provider.get_tracer("shop.lib", "1.2")
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as server:
        server.set_attribute("http.path", "/cart")
        server.set_attribute("size", 7)
        server.add_event("cache miss")
        with tracer.start_as_current_span("GET /prices", kind=SpanKind.CLIENT) as client:
            client.set_attribute("peer.service", "prices")
            client.set_status(Status(StatusCode.ERROR, "timed out"))
    if not provider.force_flush(20_000):
        raise SystemExit("the spans were not sent in time")
    provider.shutdown()
    print(trace.format_trace_id(server.get_span_context().trace_id))


main()
