"""Sends one trace with Jaeger's own client and prints its id.

usage: jaeger_native.py HOST:PORT
"""

import sys
import time

from jaeger_client import Config
from opentracing.ext import tags


def main():
    host, _, port = sys.argv[1].rpartition(":")
    config = Config(
        config={
            "sampler": {"type": "const", "param": 1},
            "local_agent": {"reporting_host": host, "reporting_port": int(port)},
            "generate_128bit_trace_id": True,
            "tags": {"zone": "z1"},
        },
        service_name="cart service",
        validate=True,
    )
    tracer = config.new_tracer()
    server = tracer.start_span("GET /cart", tags={tags.SPAN_KIND: tags.SPAN_KIND_RPC_SERVER})
    server.set_tag("text", "grüße")
    server.set_tag("int", 2**53 + 1)
    server.set_tag("double", 0.5)
    server.set_tag("bool", True)
    server.log_kv({"event": "cache miss", "key": "cart-7", "attempt": 2})
    client = tracer.start_span(
        "GET /prices", child_of=server, tags={tags.SPAN_KIND: tags.SPAN_KIND_RPC_CLIENT}
    )
    client.set_tag(tags.ERROR, True)
    client.finish()
    server.finish()
    closed = tracer.close()
    deadline = time.monotonic() + 20
    while not closed.done():
        if time.monotonic() > deadline:
            raise SystemExit("the spans were not sent in time")
        time.sleep(0.01)
    print(f"{server.trace_id:032x}")


main()
