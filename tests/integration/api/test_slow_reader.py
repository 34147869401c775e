"""A client that does not read holds up nobody, costs a bounded amount of memory, and misses nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest

from server.store.records import Event, Outcome
from support.serving import Running, ScriptedWorker, wait_for

TEXT = "x" * 8192
TOKENS = 4000  # 32 MiB of events: far more than the sockets between api and client hold
AT_ONCE = 50


def resident(pid: int) -> int:
    """Bytes of memory a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def unread(url: str, body: dict[str, object]) -> socket.socket:
    """A request whose answer nobody reads yet, over as small a buffer as the system allows."""
    host, port = url.removeprefix("http://").split(":")
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect((host, int(port)))
    content = json.dumps(body).encode()
    head = f"POST /v1/generate HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    one.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return one


async def pour(turn: Running, pid: int) -> int:
    """Many tokens, faster than any model; the most memory the process had meanwhile."""
    most = 0
    for start in range(0, TOKENS, AT_ONCE):
        events = [
            Event(turn.sequence + 1 + i, "token", {"text": TEXT, "token_ids": [start + i]}) for i in range(AT_ONCE)
        ]
        turn.sequence += AT_ONCE
        turn.tokens += [120] * AT_ONCE
        assert await turn.store.turns.append(turn.begun.generation.id, turn.begun.fence, events) is Outcome.OK
        most = max(most, resident(pid))
    return most


@pytest.mark.full
async def test_a_reader_that_does_not_read_is_held_in_bounds_and_misses_nothing(
    serving, client: httpx.AsyncClient, worker: ScriptedWorker
):
    reader = unread(serving.url, {"prompt": "x", "on_disconnect": "continue"})
    try:
        turn = await worker.take()
        await turn.start()
        pid = serving.process.popen.pid
        assert (await client.get("/health/ready")).status_code == 200
        before = resident(pid)
        most = await pour(turn, pid)
        # The generation ends, and others are served, whatever this client does.
        assert await turn.finish() is Outcome.OK
        status = (await client.get(f"/v1/sessions/{turn.begun.session.id}")).json()
        assert status["running"] is None
        most = max(most, resident(pid))
        assert most - before < 16 << 20, f"{(most - before) >> 20} MiB for a reader that does not read"
        data = bytearray()
        reader.settimeout(20)
        while piece := reader.recv(1 << 20):
            data += piece
    finally:
        reader.close()
    text = bytes(data).partition(b"\r\n\r\n")[2]
    ids = [int(line[4:-2]) for line in text.splitlines() if line.startswith(b"id: ")]
    assert ids == list(range(1, TOKENS + 3))
    assert b"event: done" in text[-2000:]
    wait_for(lambda: turn.begun.generation.id in serving.process.errors())
