"""Clients that open connections and then take their time: given up, each within its bound; who waits for us is not."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from support.serving import each_event, running_api, scripted_worker, texts, until

HEAD_S, PATIENCE_S = 0.4, 20.0
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
HELLO = {"prompt": "Hello"}


@pytest.fixture
def url(serving, tmp_path: Path) -> Iterator[str]:
    settings = serving.settings | {"head_s": str(HEAD_S), "ping_s": "0.2", "key_prefix": f"{serving.prefix}-heads"}
    with running_api(tmp_path, **settings) as (url, process):
        yield url
        assert "Traceback" not in process.errors()


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=PATIENCE_S)) as one:
        yield one


async def ready(url: str) -> bool:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{url}/health/ready")).status_code == 200


def rest(one: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    heard = b""
    while part := one.recv(65536):
        heard += part
    return heard


def check_refused(heard: bytes) -> None:
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 "), heard
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert error["code"] == "invalid_request"
    assert "0.4 s" in error["message"]


def test_half_a_head_is_refused(url: str):
    with connected(url) as one:
        began = time.monotonic()
        one.sendall(LIVE)
        check_refused(rest(one))
        assert HEAD_S * 0.9 <= time.monotonic() - began < HEAD_S + 10


def test_a_head_that_drips_gains_no_time_by_each_byte(url: str):
    with connected(url) as one:
        one.sendall(LIVE + b"X-Slow: ")
        one.settimeout(0.05)
        began, heard = time.monotonic(), b""
        while not heard and time.monotonic() - began < PATIENCE_S:
            one.sendall(b"a")
            try:
                heard = one.recv(65536)
            except TimeoutError:
                continue
        check_refused(heard)


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "a blank line"])
def test_a_connection_that_asks_for_nothing_is_closed_without_a_word(url: str, sent: bytes):
    with connected(url) as one:
        one.sendall(sent)
        assert rest(one) == b""


@pytest.mark.parametrize("more", [b"GET /", b"\r\n"], ids=["half a head", "a blank line"])
def test_a_second_head_has_the_same_time(url: str, more: bytes):
    with connected(url) as one:
        one.sendall(LIVE + b"\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += one.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        one.sendall(more)
        heard = rest(one)
        if more == b"\r\n":
            assert heard == b""
        else:
            check_refused(heard)


async def test_an_answer_that_takes_longer_is_not_cut_off_nor_by_half_a_head_behind_it(url: str, serving):
    async with scripted_worker(serving.redis_url, f"{serving.prefix}-heads", serving.tokenizer.fingerprint) as worker:
        await until(lambda: ready(url))
        body = json.dumps(HELLO).encode()
        head = b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n".encode()
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + body + b"GET /half")
        turn = await worker.take()
        await turn.start()
        for _ in range(5):  # a fifth of a second each
            await reader.readuntil(b": ping\n\n")
        await turn.say("late")
        await turn.finish()
        heard = (await reader.readuntil(b"event: done")).decode()
        assert '"text":"late"' in heard
        assert b"HTTP/1.1 408 " in await reader.read(), "now it is the client who is late"
        writer.close()


async def test_a_stream_that_takes_longer_is_whole(url: str, serving):
    async with (
        scripted_worker(serving.redis_url, f"{serving.prefix}-heads", serving.tokenizer.fingerprint) as worker,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client,
    ):
        await until(lambda: ready(url))
        async with client.stream("POST", "/v1/generate", json=HELLO) as response:
            lines = response.aiter_lines()
            turn = await worker.take()
            await turn.start()
            pings = 0
            while pings < 5:
                pings += await anext(lines) == ": ping"
            await turn.say("late")
            await turn.finish()
            assert texts([event async for event in each_event(lines)]) == "late"
