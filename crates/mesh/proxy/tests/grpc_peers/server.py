"""A gRPC server of bytes, for the cases of gRPC's interoperability tests. Prints its port.

It listens on the address that it is given, or on a free port."""

import sys
import threading
from concurrent import futures

import grpc


def unary(request, context):
    return bytes(int.from_bytes(request[:4], "big"))


def client_stream(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def server_stream(request, context):
    for size in request.decode().split(","):
        yield bytes(int(size))


def bidi(requests, context):
    yield from requests


def fail(request, context):
    code, message = request.decode().split(":", 1)
    status = next(status for status in grpc.StatusCode if status.value[0] == int(code))
    context.abort(status, message)


def sleep(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(30)
    return b"late"


def meta(request, context):
    given = dict(context.invocation_metadata())
    context.send_initial_metadata([("x-custom", given["x-custom"])])
    context.set_trailing_metadata([("x-custom-bin", given["x-custom-bin"])])
    return request


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "Meta": grpc.unary_unary_rpc_method_handler(meta),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", METHODS)])
print(server.add_insecure_port((sys.argv[1:] or ["127.0.0.1:0"])[0]), flush=True)
server.start()
server.wait_for_termination()
