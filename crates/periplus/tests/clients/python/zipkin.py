"""Sends one trace with py-zipkin and prints its id.

usage: zipkin.py v1-json|v1-thrift|v2-json HOST:PORT

Version 1.2.8 writes JSON only; 0.20.2 is the last one that writes Thrift.
"""

import sys

from py_zipkin import Encoding, Kind
from py_zipkin.transport import SimpleHTTPTransport
from py_zipkin.zipkin import zipkin_span


class Transport(SimpleHTTPTransport):
    """0.20.2 hands JSON over as text, which its own transport cannot send with Python 3."""

    def send(self, payload):
        super().send(payload if isinstance(payload, bytes) else payload.encode())


def main():
    kind, endpoint = sys.argv[1:]
    host, _, port = endpoint.rpartition(":")
    encoding = {
        "v1-json": "V1_JSON",
        "v1-thrift": "V1_THRIFT",
        "v2-json": "V2_JSON",
    }[kind]
    with zipkin_span(
        service_name="Cart Service",
        span_name="GET /cart",
        kind=Kind.SERVER,
        transport_handler=Transport(host, int(port)),
        sample_rate=100.0,
        port=8080,
        encoding=getattr(Encoding, encoding),
        use_128bit_trace_id=True,
    ) as server:
        server.update_binary_annotations({"http.path": "/cart", "size": 7})
        server.add_annotation("cache miss")
        with zipkin_span(
            service_name="Cart Service", span_name="GET /prices", kind=Kind.CLIENT
        ) as client:
            client.add_sa_binary_annotation(port=9000, service_name="prices", host="10.0.0.9")
            client.update_binary_annotations({"error": "timed out"})
        trace_id = server.zipkin_attrs.trace_id
    print(trace_id)


main()
