"""Sends one trace with OpenTelemetry's SDK and prints its id.

usage: otel.py EXPORTER ENDPOINT [COMPRESSION]
"""

import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags


def exporter_of(kind, endpoint, compression):
    """Exporters are imported where they are made: no environment has all of them."""
    host, _, port = endpoint.rpartition(":")
    if kind == "otlp-grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        algorithm = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        return OTLPSpanExporter(endpoint=endpoint, insecure=True, compression=algorithm)
    if kind in ("otlp-protobuf", "otlp-json"):
        if kind == "otlp-protobuf":
            from opentelemetry.exporter.otlp.proto.http import Compression
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        else:
            from opentelemetry.exporter.otlp.common.http import Compression
            from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
        return OTLPSpanExporter(
            endpoint=f"http://{endpoint}/v1/traces", compression=Compression(compression)
        )
    if kind in ("jaeger-udp", "jaeger-http"):
        from opentelemetry.exporter.jaeger.thrift import JaegerExporter

        if kind == "jaeger-udp":
            return JaegerExporter(agent_host_name=host, agent_port=int(port))
        return JaegerExporter(collector_endpoint=f"http://{endpoint}/api/traces?format=jaeger.thrift")
    if kind == "jaeger-grpc":
        from opentelemetry.exporter.jaeger.proto.grpc import JaegerExporter

        return JaegerExporter(collector_endpoint=endpoint, insecure=True)
    raise SystemExit(f"unknown exporter {kind}")


def main():
    kind, endpoint, *rest = sys.argv[1:]
    compression = rest[0] if rest else "none"
    exporter = exporter_of(kind, endpoint, compression)
    resource = Resource.create({"service.name": "cart service", "host.name": "h1"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("shop.lib", "1.2")
    other = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as server:
        server.set_attribute("text", "grüße")
        server.set_attribute("int", 2**53 + 1)
        server.set_attribute("double", 0.5)
        server.set_attribute("bool", True)
        server.set_attribute("list", ["a", "b"])
        server.add_event("cache miss", {"key": "cart-7", "attempt": 2})
        with tracer.start_as_current_span(
            "GET /prices", kind=SpanKind.CLIENT, links=[Link(other)]
        ) as client:
            client.set_status(Status(StatusCode.ERROR, "timed out"))
    if not provider.force_flush(20_000):
        raise SystemExit("the spans were not sent in time")
    provider.shutdown()
    print(trace.format_trace_id(server.get_span_context().trace_id))


main()
