"""What is sent below HTTP's reach: heads and bodies that never end, and bytes that are no request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server.api.body import STALLED_S
from server.api.protocol import HEAD_BYTES
from support.target import PATIENCE_S, Target

pytestmark = pytest.mark.timeout(400)

POST = b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GREW = 64 * 2**20


@contextmanager
def connected(target: Target) -> Iterator[socket.socket]:
    host, port = target.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S + STALLED_S) as one:
        yield one


def send(one: socket.socket, part: bytes, most: int) -> int:
    """How many bytes went out before the server had enough, of at most `most`."""
    sent = 0
    try:
        while sent < most:
            one.sendall(part)
            sent += len(part)
    except OSError:
        pass
    return sent


def said(one: socket.socket) -> bytes:
    """All that comes back until the connection ends, which it may do rudely."""
    heard = b""
    try:
        while part := one.recv(65536):
            heard += part
    except ConnectionError:
        pass
    return heard


ENDLESS = {
    "header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * 65536),
    "headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(5000))),
    "target": (b"GET /", b"a" * 65536),
    "trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-Long: " + b"a" * 65536),
    "chunk's extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"2;" + b"a" * 65536),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_body_has_a_bound(target: Target, kind: str) -> None:
    begin, part = ENDLESS[kind]
    before = target.rss()
    with connected(target) as one:
        one.sendall(begin)
        assert send(one, part, 400 * 2**20) < 300 * 2**20
        heard = said(one)
    if heard:  # it is lost where the connection breaks before it is read
        head, _, body = heard.partition(b"\r\n\r\n")
        assert head.split()[1] in (b"431", b"400"), heard
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert target.rss() - before < GREW


def test_a_head_of_the_allowed_size_is_read(target: Target) -> None:
    with connected(target) as one:
        one.sendall(
            b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: " + b"a" * (HEAD_BYTES - 200)
        )
        one.sendall(b"\r\n\r\n")
        assert said(one).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n",
        POST + b"Content-Length: -5\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request_is_told_so(target: Target, raw: bytes) -> None:
    with connected(target) as one:
        one.sendall(raw)
        head, _, body = said(one).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400", head
    assert b"application/json" in head
    assert json.loads(body)["error"]["code"] == "invalid_request"


def test_a_websocket_is_not_opened(target: Target) -> None:
    with connected(target) as one:
        one.sendall(
            b"GET /v1/generate HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 405 " in one.recv(65536).split(b"\r\n")[0]


@pytest.mark.full
def test_a_body_that_stops_arriving_is_given_up(target: Target) -> None:
    """One that says how long it is, and one in chunks that never end within the bound."""
    with connected(target) as one, connected(target) as other:
        one.sendall(POST + b'Content-Length: 100\r\nConnection: close\r\n\r\n{"prompt"')
        other.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{    \r\n")
        for waiting in (one, other):
            heard = said(waiting)
            assert b" 400 " in heard.split(b"\r\n")[0]
            assert b"did not arrive" in heard
