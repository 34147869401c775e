"""That chaos notices what is lost or repeated, and tells a broken connection from a refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from loadtest.chaos import Talk, Verdict
from loadtest.client import Target
from loadtest.workload import Turn

TURN = Turn(0, 0, "hello", 8, 1)


def event(number: int, kind: str, **data: Any) -> bytes:
    return f"id: {number}-0\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


START = event(1, "start", generation="gen_1", session="ses_1")
TOKENS = [event(n + 2, "token", text="x", token_ids=[n]) for n in range(4)]
DONE = event(6, "done", usage={})
WHOLE: list[int] = [0, 1, 2, 3]


class Stream(httpx.AsyncByteStream):
    """Parts of an answer; breaks off at its end where `broken`."""

    def __init__(self, parts: Sequence[bytes], broken: bool) -> None:
        self._parts = parts
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._broken:
            raise httpx.ReadError("reset")


class Server:
    """Answers each connection with the next of these: parts, and whether it breaks off; or a status."""

    def __init__(self, *replies: tuple[Sequence[bytes], bool] | int, account: Sequence[int] = WHOLE) -> None:
        self._replies = iter(replies)
        self._account = list(account)
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path == "/v1/generations/gen_1":
            return httpx.Response(200, json={"token_ids": self._account})
        reply = next(self._replies)
        if isinstance(reply, int):
            return httpx.Response(reply, json={"error": {"code": "x"}})
        return httpx.Response(200, stream=Stream(*reply))


@asynccontextmanager
async def talking(server: Callable[..., Any], cuts: int = 0, patience_s: float = 5.0) -> AsyncIterator[Talk]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        yield Talk(http, Target("http://here"), cuts, patience_s, "seed")


async def verdict(server: Server, **more: Any) -> Verdict:
    async with talking(server, **more) as talk, asyncio.timeout(30):
        return await talk.say(TURN)


async def test_an_answer_that_comes_in_one_piece() -> None:
    found = await verdict(Server(([START, *TOKENS, DONE], False)))
    assert (found.wrong, found.tokens, found.breaks, found.cuts) == (None, 4, 0, 0)


async def test_breaks_and_refusals_that_pass_are_taken_up_where_it_was() -> None:
    server = Server(
        503,
        ([START, *TOKENS[:2]], True),
        502,
        ([TOKENS[2], event(4, "error", error={"code": "store_unavailable"})], False),
        ([TOKENS[3], DONE], False),
    )
    found = await verdict(server)
    assert (found.wrong, found.tokens, found.breaks) == (None, 4, 4)
    posts = [one for one in server.asked if one.method == "POST"]
    assert len({one.headers["idempotency-key"] for one in posts}) == 1
    assert len(posts) == 2
    resumed = [one.headers.get("last-event-id") for one in server.asked if one.url.path.endswith("/events")]
    assert resumed == ["3-0", "3-0", "4-0"]


async def test_our_own_cuts_are_taken_up_too() -> None:
    pieces = [([START, TOKENS[0]], False), *(([token], False) for token in TOKENS[1:]), ([DONE], False)]
    found = await verdict(Server(*pieces), cuts=100)
    assert (found.wrong, found.tokens) == (None, 4)
    assert found.cuts + found.breaks == 4


@pytest.mark.parametrize(
    ("heard", "wrong"),
    [
        ([START, *TOKENS[:3], DONE], "heard 3 tokens of 4, other ones from the 4. on"),
        ([START, *TOKENS, TOKENS[3], DONE], "heard 5 tokens of 4, other ones from the 5. on"),
        ([START, TOKENS[1], TOKENS[0], *TOKENS[2:], DONE], "heard 4 tokens of 4, other ones from the 1. on"),
    ],
)
async def test_what_is_lost_repeated_or_out_of_order_is_noticed(heard: list[bytes], wrong: str) -> None:
    assert (await verdict(Server((heard, False)))).wrong == wrong


async def test_a_refusal_that_stays_ends_the_turn() -> None:
    assert (await verdict(Server(409))).wrong == "409"
    failed = event(2, "error", error={"code": "corrupt_state"})
    assert (await verdict(Server(([START, failed], False)))).wrong == "in the stream: corrupt_state"


async def test_patience_ends() -> None:
    class Away(Server):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("away")

    assert (await verdict(Away(), patience_s=0.3)).wrong == "no news"
