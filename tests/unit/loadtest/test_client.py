"""What a turn ends as when a server does what servers do: refuse, break off, fall silent, talk nonsense."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from loadtest.client import Api, Target, TargetError, connections, converse, known
from loadtest.stats import Outcome
from loadtest.workload import Turn

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
SECRET = "what the user said"


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def chunk(**data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def refusal(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


START = event("start", session="ses_1", generation="gen_1")
TOKEN = event("token", text="a", token_ids=[1])
DONE = event("done", usage={"prompt_tokens": 4, "completion_tokens": 2, "cached_tokens": 9})
SAID = chunk(choices=[{"delta": {"content": "b"}}])


@asynccontextmanager
async def server(*replies: Sequence[bytes | None]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers the n-th request with the n-th reply, part by part; None: holds the connection until the client goes.
    Its url, and what it was sent."""
    asked: list[bytes] = []
    rest = iter(replies)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        asked.append(head + await reader.readexactly(length))
        for part in next(rest):
            if part is None:
                await reader.read()
                break
            writer.write(part)
            await writer.drain()
        writer.close()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    listening = await asyncio.start_server(take, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", asked
    await asyncio.gather(*running)


async def say(api: Api, *replies: Sequence[bytes | None], turns: int = 1, timeout_s: float = 20.0) -> list[Outcome]:
    async with server(*replies) as (url, _), connections() as http:
        talk = converse(http, Target(url, api, model="m", timeout_s=timeout_s), time.perf_counter())
        return [await talk.say(Turn(0, n, SECRET, 8, 1), time.perf_counter()) for n in range(turns)]


async def test_a_native_answer() -> None:
    [found] = await say("native", [OK, START, TOKEN, b": ping\n\n", TOKEN, DONE])
    assert found.error is None
    assert (found.tokens, found.read_tokens, found.cached_tokens, len(found.gaps_s)) == (2, 4, 9, 1)
    assert found.ttft_s is not None
    assert 0 < found.ttft_s <= found.e2e_s


async def test_a_chat_answer() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 7}}
    role = chunk(choices=[{"delta": {"role": "assistant"}}])
    [found] = await say("openai", [OK, role, SAID, SAID, chunk(choices=[], usage=usage), b"data: [DONE]\n\n"])
    assert found.error is None
    assert (found.tokens, found.read_tokens, found.cached_tokens, len(found.gaps_s)) == (5, 2, 7, 1)


async def test_a_server_that_counts_nothing_is_counted_for() -> None:
    [found] = await say("openai", [OK, SAID, SAID, SAID, b"data: [DONE]\n\n"])
    assert (found.error, found.tokens) == (None, 3)


@pytest.mark.parametrize(
    ("api", "reply", "error"),
    [
        ("native", [refusal("429 x", b'{"error": {"code": "queue_full"}}')], "429 queue_full"),
        ("openai", [refusal("400 x", b'{"error": {"code": null, "type": "bad_request"}}')], "400 bad_request"),
        ("openai", [refusal("502 x", b"<html>")], "502"),
        ("openai", [refusal("500 x", b'{"error": {"code": "' + SECRET.encode() + b'"}}')], "500"),
        ("native", [OK, START, TOKEN], "stream ended early"),
        ("openai", [OK, SAID], "stream ended early"),
        (
            "native",
            [OK, START, event("error", error={"code": "store_unavailable"})],
            "in the stream: store_unavailable",
        ),
        ("openai", [OK, chunk(error={"code": "overloaded"})], "in the stream: overloaded"),
        ("native", [OK, b"event: token\ndata: {\n\n"], "unreadable answer"),
        ("native", [OK, b"event: token\ndata: []\n\n"], "unreadable answer"),
        ("native", [b""], "connection: RemoteProtocolError"),
        ("native", [OK.replace(b"connection: close", b"content-length: 999"), START, TOKEN], "broken stream: "),
    ],
)
async def test_whatever_goes_wrong_has_a_kind_and_no_text_of_the_users(
    api: Api, reply: list[bytes], error: str
) -> None:
    [found] = await say(api, reply)
    assert found.error is not None
    assert found.error.startswith(error)
    assert SECRET not in found.error


async def test_silence_ends_with_the_turns_time() -> None:
    [found] = await say("native", [OK, START, TOKEN, None], timeout_s=0.1)
    assert found.error == "timeout"
    assert found.tokens == 1


async def test_a_native_conversation_goes_on_in_its_session_and_is_deleted() -> None:
    whole = [OK, START, TOKEN, DONE]
    async with server(whole, whole, [refusal("200 x", b"{}")]) as (url, asked), connections() as http:
        talk = converse(http, Target(url, key="k1", extra={"top_k": 3}), time.perf_counter())
        for number in range(2):
            assert (await talk.say(Turn(0, number, f"t{number}", 8, 1), time.perf_counter())).error is None
        await talk.forget()
    bodies = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in asked[:2]]
    assert "session_id" not in bodies[0]
    assert bodies[1]["session_id"] == "ses_1"
    assert [body["messages"] for body in bodies] == [[{"role": "user", "content": f"t{n}"}] for n in range(2)]
    assert all(body["top_k"] == 3 for body in bodies)
    assert asked[2].startswith(b"DELETE /v1/sessions/ses_1 ")
    assert all(b"authorization: Bearer k1" in one.replace(b"Authorization", b"authorization") for one in asked)


async def test_a_chat_sends_all_of_its_history_but_what_failed() -> None:
    whole = [OK, SAID, SAID, b"data: [DONE]\n\n"]
    async with server(whole, [OK, SAID], whole) as (url, asked), connections() as http:
        talk = converse(http, Target(url, "openai", model="m"), time.perf_counter())
        for number in range(3):
            await talk.say(Turn(0, number, f"t{number}", 8, 1), time.perf_counter())
    last = json.loads(asked[2].partition(b"\r\n\r\n")[2])
    assert [(one["role"], one["content"]) for one in last["messages"]] == [
        ("user", "t0"),
        ("assistant", "bb"),
        ("user", "t2"),
    ]


async def test_a_target_is_asked_for_its_models_name() -> None:
    body = b'{"data": [{"id": "m-1"}]}'
    async with server([refusal("200 OK", body)], [refusal("200 OK", b"[]")]) as (url, _), connections() as http:
        target = Target(url, "openai")
        assert await known(http, target) == replace(target, model="m-1")
        with pytest.raises(TargetError, match="names no model"):
            await known(http, target)
    async with connections() as http:
        with pytest.raises(TargetError, match="does not answer"):
            await known(http, target)


async def test_a_target_that_is_not_ready_is_not_tested() -> None:
    body = b'{"error": {"code": "no_worker"}}'
    async with server([refusal("503 x", body)]) as (url, _), connections() as http:
        with pytest.raises(TargetError, match="503 no_worker"):
            await known(http, Target(url))
