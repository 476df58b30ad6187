"""One gRPC call over TLS: ADDRESS PATH MESSAGE_IN_HEX AUTHORITIES [CERTIFICATE KEY]; prints its status."""

import sys

import grpc

address, path, message, *files = sys.argv[1:]
authorities, *own = (open(name, "rb").read() for name in files)
certificate, key = own or (None, None)
credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
with grpc.secure_channel(address, credentials) as channel:
    try:
        channel.unary_unary(path)(bytes.fromhex(message), timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name)
