"""Clients that open requests and go away, all at once: nothing of them stays, and who comes next is served."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import httpx
import pytest
from redis import Redis

from support.fleet import Fleet
from support.serving import wait_for
from support.target import PATIENCE_S, Target

pytestmark = pytest.mark.timeout(400)

ACCEPTED, LEFT = "perennial_generations_accepted_total", "perennial_client_disconnects_total"
LONG = {"max_tokens": 128, "ignore_eos": True}
ASKS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/generate", {"prompt": "x" * 40, "stream": True}),
    ("/v1/generate", {"prompt": "x" * 40, "stream": False}),
    ("/v1/generate", {"messages": [{"role": "user", "content": "x"}], "store": False}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "n": 2}),
    ("/v1/completions", {"model": "tiny", "prompt": ["x", "y"]}),
]


def opened(url: str, number: int) -> socket.socket:
    """A connection on which a request stands, whole or (one in ten) half."""
    path, body = ASKS[number % len(ASKS)]
    raw = json.dumps(body | LONG).encode()
    host, port = url.removeprefix("http://").split(":")
    one = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    one.sendall(head.encode() + (raw[: len(raw) // 2] if number % 10 == 9 else raw))
    return one


def figure(url: str, name: str) -> float:
    """One of the api's metrics."""
    lines = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def drop(running: Fleet, target: Target, count: int) -> None:
    """Open so many requests, drop all, and see nothing left of them."""
    before = figure(target.url, ACCEPTED), figure(target.url, LEFT)
    connections = [opened(target.url, number) for number in range(count)]
    random.Random(6).shuffle(connections)
    for place, one in enumerate(connections):
        if place == count // 2:  # half before the server has had a look at them, half with some of them in its hands
            wait_for(lambda: figure(target.url, ACCEPTED) >= before[0] + 8, PATIENCE_S)
        # Some say goodbye, the others are gone.
        if one.fileno() % 2:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        one.close()
    ask = {"prompt": "Still there?", "max_tokens": 4, "stream": False}
    answer = httpx.post(f"{target.url}/v1/generate", json=ask, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"] > 0) == (200, True)

    with Redis(unix_socket_path=running.valkey.url.removeprefix("unix://"), decode_responses=True) as redis:

        def quiet() -> bool:
            streams = list(redis.scan_iter("*{queue}:turns*", count=1000))
            pending = sum(redis.xpending(name, "workers")["pending"] for name in streams)
            waiting = sum(redis.xlen(name) for name in streams)
            return not pending and not waiting and not figure(target.url, "perennial_open_streams")

        wait_for(quiet, PATIENCE_S)
        wait_for(lambda: figure(target.url, LEFT) > before[1], PATIENCE_S)
        wait_for(lambda: not figure(target.url, "perennial_queue_depth"), PATIENCE_S)
        ended = {"done", "cancelled", "failed"}
        for name in redis.scan_iter("*:gen:*", count=1000):
            assert redis.hget(name, "status") in ended, name
        running_now = [name for name in redis.scan_iter("*:session:*", count=1000) if redis.hget(name, "running")]
        assert not [name for name in running_now if not _ended(target.url, redis.hget(name, "running"))]
    page = httpx.get(f"{target.url}/v1/sessions?limit=100", timeout=PATIENCE_S).json()
    for session in page["data"]:
        more = {"session_id": session["id"], "prompt": "Go on.", "max_tokens": 2, "stream": False}
        assert httpx.post(f"{target.url}/v1/generate", json=more, timeout=PATIENCE_S).status_code == 200


def _ended(url: str, generation: str) -> bool:
    answer = httpx.get(f"{url}/v1/generations/{generation}", timeout=PATIENCE_S)
    return answer.status_code == 404 or answer.json()["status"] in ("done", "cancelled", "failed")


def test_requests_that_are_dropped_leave_nothing(running: Fleet, target: Target) -> None:
    drop(running, target, 40)


@pytest.mark.full
def test_200_requests_that_are_dropped_leave_nothing(running: Fleet, target: Target) -> None:
    drop(running, target, 200)
