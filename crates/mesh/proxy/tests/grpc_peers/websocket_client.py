"""A WebSocket client that tries texts, bytes, pings and both ways to close; `websockets` of PyPI."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def main():
    url = f"ws://{sys.argv[1]}/chat"
    async with connect(url, subprotocols=["chat"], max_size=None, proxy=None) as connection:
        assert connection.subprotocol == "chat"
        for message in ["hello", "", "é" * 1000, b"\x00\xff", bytes(range(256)) * 8192]:
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())
        many = [str(number) for number in range(1000)]
        for message in many:
            await connection.send(message)
        assert [await connection.recv() for _ in many] == many
    async with connect(url, subprotocols=["chat"], proxy=None) as connection:
        await connection.send("close")
        try:
            await connection.recv()
        except ConnectionClosedError as error:
            assert (error.rcvd.code, error.rcvd.reason) == (4001, "as you wish")
        else:
            raise AssertionError("the server has not closed")
    print("all passed")


asyncio.run(main())
