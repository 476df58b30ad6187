"""Two versions of a service of gRPC, and a client that finds them by xDS.

With a directory for an argument, the servers take mutual TLS alone, and tell whom they have answered; the client speaks
it if it is told to by xDS.

Prints the ports of v1 and v2. Then each line `CALLS [USER]` is answered by a line of JSON: who has answered how often.
"""

import collections
import json
import pathlib
import sys
from concurrent import futures

import grpc
import grpc.experimental


class Version(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        peers = context.auth_context().get("peer_spiffe_id", [])
        return b" to ".join([self.name, *peers])


identity = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None


def serve(name):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([Version(name)])
    if identity:
        read = lambda file: (identity / file).read_bytes()
        pair = (read("server.key"), read("server.pem"))
        secured = grpc.ssl_server_credentials([pair], read("ca.pem"), require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", secured)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


servers = [serve(b"v1"), serve(b"v2")]
print(*(port for _, port in servers), flush=True)
NAME = "xds:///greeter.default.svc.cluster.local:7070"
if identity:
    plain = grpc.experimental.insecure_channel_credentials()
    channel = grpc.secure_channel(NAME, grpc.xds_channel_credentials(plain))
else:
    channel = grpc.insecure_channel(NAME)
hello = channel.unary_unary("/greeter.Greeter/Hello")
for line in sys.stdin:
    calls, *user = line.split()
    metadata = [("end-user", name) for name in user]
    answers = collections.Counter()
    for _ in range(int(calls)):
        try:
            answer = hello(b"", timeout=10, wait_for_ready=not identity, metadata=metadata)
            answers[answer.decode()] += 1
        except grpc.RpcError as error:
            answers[f"{error.code().name}: {error.details()}"] += 1
    print(json.dumps(answers), flush=True)
