"""A service of `envoy.service.auth.v3.Authorization` on grpcio: it does what the request's `x-ask` says. Connections that
are no HTTP are allowed to the ports that are its arguments. Prints its port.

Only the fields that it needs are described here; it knows nothing of how the proxy encodes them."""

import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TEXT, NUMBER = 9, 5
MESSAGES = {
    "HeadersEntry": [("key", 1, TEXT), ("value", 2, TEXT)],
    "HttpRequest": [("method", 2, TEXT), ("headers", 3, "HeadersEntry*"), ("path", 4, TEXT)],
    "Request": [("http", 2, "HttpRequest")],
    "Socket": [("port", 3, NUMBER)],
    "Address": [("socket", 1, "Socket")],
    "Peer": [("address", 1, "Address")],
    "Attributes": [("destination", 2, "Peer"), ("request", 4, "Request")],
    "CheckRequest": [("attributes", 1, "Attributes")],
    "Header": [("key", 1, TEXT), ("value", 2, TEXT)],
    "Option": [("header", 1, "Header")],
    "HttpStatus": [("code", 1, NUMBER)],
    "Denied": [("status", 1, "HttpStatus"), ("headers", 2, "Option*"), ("body", 3, TEXT)],
    "Ok": [("headers", 2, "Option*")],
    "Status": [("code", 1, NUMBER)],
    "CheckResponse": [("status", 1, "Status"), ("denied", 2, "Denied"), ("ok", 3, "Ok")],
}


def classes():
    file = descriptor_pb2.FileDescriptorProto(name="auth.proto", package="auth", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=1)
            if isinstance(kind, int):
                added.type = kind
                continue
            added.label = 3 if kind.endswith("*") else 1
            added.type, added.type_name = 11, ".auth." + kind.rstrip("*")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName("auth." + name) for name in MESSAGES)
    return {one.name: message_factory.GetMessageClass(one) for one in found}


CLASSES = classes()
Response, Option, Header = (CLASSES[name] for name in ("CheckResponse", "Option", "Header"))


ALLOWED = {int(port) for port in sys.argv[1:]}


def check(request, context):
    if not request.attributes.request.HasField("http"):
        response = Response()
        if request.attributes.destination.address.socket.port not in ALLOWED:
            response.status.code = 7
        return response
    http = request.attributes.request.http
    headers = {entry.key: entry.value for entry in http.headers}
    option = lambda key, value: Option(header=Header(key=key, value=value))
    match headers.get("x-ask"):
        case "allow":
            response = Response()
            response.ok.headers.append(option("x-auth-method", http.method + " " + http.path))
        case "deny-as":
            response = Response()
            response.status.code = 16
            response.denied.status.code = 401
            response.denied.headers.append(option("x-auth-told", "no"))
            response.denied.body = "who are you?"
        case "fail":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        case _:
            response = Response()
            response.status.code = 7
    return response


handler = grpc.unary_unary_rpc_method_handler(
    check,
    request_deserializer=CLASSES["CheckRequest"].FromString,
    response_serializer=Response.SerializeToString,
)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
name = "envoy.service.auth.v3.Authorization"
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Check": handler})])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
