"""A WebSocket client that tries texts, bytes, pings and both ways to close; `websockets` of PyPI.

With the certificate of an authority behind the address it speaks TLS, to who is called a.example.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def main():
    options = {"subprotocols": ["chat"], "max_size": None, "proxy": None}
    scheme = "ws"
    if len(sys.argv) > 2:
        scheme = "wss"
        options["ssl"] = ssl.create_default_context(cafile=sys.argv[2])
        options["server_hostname"] = "a.example"
    url = f"{scheme}://{sys.argv[1]}/chat"
    async with connect(url, **options) as connection:
        assert connection.subprotocol == "chat"
        for message in ["hello", "", "é" * 1000, b"\x00\xff", bytes(range(256)) * 8192]:
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())
        many = [str(number) for number in range(1000)]
        for message in many:
            await connection.send(message)
        assert [await connection.recv() for _ in many] == many
    async with connect(url, **options) as connection:
        await connection.send("close")
        try:
            await connection.recv()
        except ConnectionClosedError as error:
            assert (error.rcvd.code, error.rcvd.reason) == (4001, "as you wish")
        else:
            raise AssertionError("the server has not closed")
    print("all passed")


asyncio.run(main())
