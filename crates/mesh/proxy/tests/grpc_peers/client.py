"""The cases of gRPC's interoperability tests, against a server of bytes at an address."""

import queue
import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])


def method(kind, name):
    return getattr(channel, kind)("/test.Echo/" + name)


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it did not fail")


# empty_unary, large_unary
unary = method("unary_unary", "Unary")
assert unary(b"\0\0\0\0", timeout=20) == b""
assert len(unary((314159).to_bytes(4, "big") + bytes(271828), timeout=20)) == 314159

# client_streaming
sizes = [27182, 8, 1828, 45904]
total = method("stream_unary", "ClientStream")((bytes(size) for size in sizes), timeout=20)
assert total == b"74922", total

# server_streaming
wanted = [31415, 9, 2653, 58979]
got = method("unary_stream", "ServerStream")(b"31415,9,2653,58979", timeout=20)
assert [len(message) for message in got] == wanted

# ping_pong: each message goes only once the one before has come back.
messages = queue.Queue()
answers = method("stream_stream", "Bidi")(iter(messages.get, None), timeout=20)
for size in sizes:
    messages.put(bytes(size))
    assert len(next(answers)) == size
messages.put(None)
assert list(answers) == []

# empty_stream
assert list(method("stream_stream", "Bidi")(iter([]), timeout=20)) == []

# timeout_on_sleeping_server. Behind proxies that obey deadlines, too, either side may be first, and a proxy's answer is
# another one: `deadlines=` says which are taken.
taken = next((text[10:] for text in sys.argv[2:] if text.startswith("deadlines=")), "DEADLINE_EXCEEDED")
sleep = method("unary_unary", "Sleep")
begin = time.monotonic()
code, _ = failure(lambda: sleep(b"", timeout=0.3))
assert code.name in taken.split(","), code
assert time.monotonic() - begin < 10

# cancel_after_begin, cancel_after_first_response
call = method("stream_unary", "ClientStream").future(iter(queue.Queue().get, None), timeout=20)
time.sleep(0.1)
call.cancel()
assert call.code() == grpc.StatusCode.CANCELLED
messages = queue.Queue()
answers = method("stream_stream", "Bidi")(iter(messages.get, None), timeout=20)
messages.put(b"one")
assert next(answers) == b"one"
answers.cancel()
assert failure(lambda: next(answers))[0] == grpc.StatusCode.CANCELLED
messages.put(None)

# status_code_and_message, special_status_message
fail = method("unary_unary", "Fail")
for code, message in [(2, "test status message"), (7, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")]:
    found = failure(lambda: fail(f"{code}:{message}".encode(), timeout=20))
    assert found[0].value[0] == code and found[1] == message, found

# unimplemented_method, unimplemented_service
for path in ["/test.Echo/Nothing", "/test.Nobody/Unary"]:
    code, _ = failure(lambda: channel.unary_unary(path)(b"", timeout=20))
    assert code == grpc.StatusCode.UNIMPLEMENTED, code

# custom_metadata
sent = [("x-custom", "value"), ("x-custom-bin", b"\x0a\x0b\x0a\x00\xff")]
answer, call = method("unary_unary", "Meta").with_call(b"m", metadata=sent, timeout=20)
assert dict(call.initial_metadata())["x-custom"] == "value"
assert dict(call.trailing_metadata())["x-custom-bin"] == sent[1][1]

# Many at once over the one connection.
calls = [unary.future((size).to_bytes(4, "big"), timeout=20) for size in range(200)]
assert [len(call.result()) for call in calls] == list(range(200))
print("all passed")
