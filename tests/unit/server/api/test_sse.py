"""Event frames and the streaming response, driven as an ASGI server drives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from server.api.sse import PING, EventStream, frame


class Client:
    """The server's side of one request: collects what is sent, says when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.got = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.got.set()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Leavings:
    """Counts the calls of `on_leave`."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


def test_a_frame_is_one_event_with_its_id_on_single_lines():
    data = {"text": "two\nlines\r\n\u2028 and ü", "token_ids": [1, 2]}
    raw = frame("token", data, "7-0")
    lines = raw.decode().split("\n")
    assert lines[:2] == ["id: 7-0", "event: token"]
    assert lines[2].startswith("data: ")
    assert lines[3:] == ["", ""]
    assert json.loads(lines[2].removeprefix("data: ")) == data
    assert b"\r" not in raw
    assert frame("error", {}).startswith(b"event: error\n")


async def test_frames_go_out_in_order_and_the_end_is_said_once():
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"

    client, leave = Client(), Leavings()
    stream = EventStream(frames(), ping_s=60, on_leave=leave, headers={"X-One": "1"})
    await stream({}, client.receive, client.send)
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-one"] == b"1"
    assert b"content-length" not in headers
    assert client.body == b"ab"
    assert [message["more_body"] for message in client.sent[1:]] == [True, True, False]
    assert leave.count == 0


async def test_leaving_is_told_at_once_and_closes_the_frames():
    closed = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    client, leave = Client(), Leavings()
    serving = asyncio.create_task(EventStream(frames(), ping_s=60, on_leave=leave)({}, client.receive, client.send))
    await client.got.wait()
    client.left.set()
    async with asyncio.timeout(5):
        await serving
    assert (leave.count, closed.is_set()) == (1, True)
    assert all(message.get("more_body", True) for message in client.sent)


async def test_a_silent_stream_is_pinged_until_there_is_news():
    going = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        await going.wait()
        yield b"news"

    client = Client()
    serving = asyncio.create_task(
        EventStream(frames(), ping_s=0.01, on_leave=Leavings())({}, client.receive, client.send)
    )
    async with asyncio.timeout(5):
        while client.body.count(PING) < 2:
            client.got.clear()
            await client.got.wait()
        going.set()
        await serving
    assert client.body.replace(PING, b"") == b"news"


async def test_a_stop_of_the_server_is_not_the_client_leaving():
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"a"
        await asyncio.Event().wait()

    client, leave = Client(), Leavings()
    serving = asyncio.create_task(EventStream(frames(), ping_s=60, on_leave=leave)({}, client.receive, client.send))
    await client.got.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert leave.count == 0


async def test_a_client_that_stops_reading_counts_as_gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.api.sse.STALLED_S", 0.01)

    async def frames() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"a"

    client, leave = Client(), Leavings()

    async def send(message: Any) -> None:
        if message.get("body"):
            await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await EventStream(frames(), ping_s=60, on_leave=leave)({}, client.receive, send)
    assert leave.count == 1


async def test_an_error_of_the_frames_is_not_swallowed():
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise RuntimeError("broken")

    client = Client()
    with pytest.raises(RuntimeError, match="broken"):
        await EventStream(frames(), ping_s=60, on_leave=Leavings())({}, client.receive, client.send)
    assert all(message.get("more_body", True) for message in client.sent)
