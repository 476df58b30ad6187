"""Asks for sampling strategies with Jaeger's own client, every tenth of a second, and prints each
new sampler that it makes of the answers.

usage: sampler.py HOST:PORT SERVICE
"""

import sys
import time

from jaeger_client import Config


def main():
    host, _, port = sys.argv[1].rpartition(":")
    config = Config(
        config={
            "local_agent": {"reporting_host": host, "sampling_port": int(port)},
            "sampling_refresh_interval": 0.1,
        },
        service_name=sys.argv[2],
        validate=True,
    )
    tracer = config.new_tracer()
    seen = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = str(tracer.sampler.sampler)
        if now != seen:
            print(now, flush=True)
            seen = now
        time.sleep(0.02)


main()
