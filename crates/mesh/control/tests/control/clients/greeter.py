"""Two versions of a service of gRPC, and a client that finds them by xDS.

Prints the ports of v1 and v2. Then each line `CALLS [USER]` is answered by a line of JSON: who has answered how often.
"""

import collections
import json
import sys
from concurrent import futures

import grpc


class Version(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.name)


def serve(name):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([Version(name)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


servers = [serve(b"v1"), serve(b"v2")]
print(*(port for _, port in servers), flush=True)
channel = grpc.insecure_channel("xds:///greeter.default.svc.cluster.local:7070")
hello = channel.unary_unary("/greeter.Greeter/Hello")
for line in sys.stdin:
    calls, *user = line.split()
    metadata = [("end-user", name) for name in user]
    answers = collections.Counter()
    for _ in range(int(calls)):
        try:
            answers[hello(b"", timeout=10, wait_for_ready=True, metadata=metadata).decode()] += 1
        except grpc.RpcError as error:
            answers[f"{error.code().name}: {error.details()}"] += 1
    print(json.dumps(answers), flush=True)
