"""Streams that are cut again and again, by us and by whatever an operator kills meanwhile: is every token there, once?

A client that cuts its connection takes the answer up from the last event it saw, as a browser would; one that has heard
nothing yet asks again with the same idempotency key. At the end what it heard, in pieces, is compared with what the
server says the whole answer is.

Invariants: refusals and broken connections are waited out for `patience_s` without news, no longer; a turn ends as one
`Verdict`, whatever happened to it. Perennial's own API only: no other can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from loadtest.client import Target, connections
from loadtest.run import until
from loadtest.sse import events
from loadtest.workload import Turn, Workload

# Of one connection, token events before it is cut. s between two tries.
LONGEST, PAUSE_S = 12, 0.2
WAITED_OUT = (429, 502, 503, 504)
# Error events after which a stream can be taken up again.
RESUMED = ("store_unavailable",)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer. cuts: by us; breaks: not by us. wrong: how what was heard differs from the server's own account, or
    why there is nothing to compare; None where it is whole. silence_s: the longest without news."""

    cuts: int
    breaks: int
    tokens: int
    silence_s: float
    wrong: str | None


@dataclass(slots=True)
class Heard:
    """One answer as it came in."""

    generation: str | None = None
    session: str | None = None
    last: str | None = None
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    refused: str | None = None
    cuts: int = 0
    breaks: int = 0
    news: float = field(default_factory=time.perf_counter)
    silence_s: float = 0.0

    def take(self, kind: str, data: dict[str, Any], at: float) -> None:
        """An event."""
        self.silence_s, self.news = max(self.silence_s, at - self.news), at
        if kind == "start":
            self.generation, self.session = data["generation"], data["session"]
        elif kind == "token":
            self.tokens += data["token_ids"]
        elif kind == "done":
            self.ended = True
        elif kind == "error" and data["error"]["code"] not in RESUMED:
            self.refused = f"in the stream: {data['error']['code']}"


class Talk:
    """One conversation whose answers are cut."""

    def __init__(self, http: httpx.AsyncClient, target: Target, cuts: int, patience_s: float, seed: str) -> None:
        """cuts: of each answer, at most; an answer may end before."""
        self._http = http
        self._target = target
        self._cuts = cuts
        self._patience_s = patience_s
        self._rng = random.Random(seed)
        self._headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
        self.session: str | None = None

    async def say(self, turn: Turn) -> Verdict:
        """One turn, to its verdict."""
        heard, key = Heard(), secrets.token_hex(8)
        body = {
            "messages": [{"role": "user", "content": turn.text}],
            **({"session_id": self.session} if self.session else {}),
            "max_tokens": turn.max_tokens,
            "seed": turn.seed,
            "ignore_eos": True,
            "on_disconnect": "continue",
            **self._target.extra,
        }
        while not heard.ended and heard.refused is None:
            if time.perf_counter() - heard.news > self._patience_s:
                heard.refused = "no news"
                break
            try:
                await self._listen(heard, body, key)
            except (httpx.TransportError, ValueError):  # ValueError: an event that was cut in two
                heard.breaks += 1
                await asyncio.sleep(PAUSE_S)
        self.session = heard.session or self.session
        wrong = heard.refused or await self._compare(heard)
        return Verdict(heard.cuts, heard.breaks, len(heard.tokens), heard.silence_s, wrong)

    async def _listen(self, heard: Heard, body: dict[str, Any], key: str) -> None:
        """One connection, until it ends or is cut."""
        if heard.generation is None:
            asked = self._stream("POST", "/v1/generate", json=body, headers=self._with(key=key))
        else:
            asked = self._stream(
                "GET", f"/v1/generations/{heard.generation}/events", headers=self._with(last=heard.last)
            )
        left = self._rng.randint(1, LONGEST) if heard.cuts < self._cuts else None
        async with asked as response:
            if response.status_code in WAITED_OUT:
                heard.breaks += 1
                await asyncio.sleep(PAUSE_S)
                return
            if response.status_code != 200:
                heard.refused = str(response.status_code)
                return
            async with contextlib.aclosing(events(response.aiter_bytes())) as coming:
                async for event in coming:
                    heard.take(event.kind, json.loads(event.data), event.at)
                    heard.last = event.id or heard.last
                    if heard.ended or heard.refused:
                        return
                    if left is not None and event.kind == "token":
                        left -= 1
                        if left == 0:
                            heard.cuts += 1
                            return
        heard.breaks += 1  # it ended without saying so

    async def _compare(self, heard: Heard) -> str | None:
        """With the server's own account of the answer."""
        deadline = time.perf_counter() + self._patience_s
        while time.perf_counter() < deadline:
            with contextlib.suppress(httpx.TransportError):
                url = self._url(f"/v1/generations/{heard.generation}")
                answer = await self._http.get(url, headers=self._headers, timeout=self._target.timeout_s)
                if answer.status_code == 200:
                    whole = answer.json()["token_ids"]
                    return None if whole == heard.tokens else _difference(heard.tokens, whole)
                if answer.status_code not in WAITED_OUT:
                    return f"{answer.status_code} when looked up"
            await asyncio.sleep(PAUSE_S)
        return "not to be looked up"

    async def forget(self) -> None:
        """Delete the session."""
        if self.session is not None:
            with contextlib.suppress(httpx.HTTPError):
                await self._http.delete(self._url(f"/v1/sessions/{self.session}"), headers=self._headers, timeout=5.0)

    def _stream(self, method: str, path: str, **more: Any) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        # Pings come far more often: a connection that is silent for so long is dead.
        return self._http.stream(method, self._url(path), timeout=self._patience_s, **more)

    def _url(self, path: str) -> str:
        return self._target.url + path

    def _with(self, *, key: str | None = None, last: str | None = None) -> dict[str, str]:
        more = {"Idempotency-Key": key, "Last-Event-ID": last}
        return self._headers | {name: value for name, value in more.items() if value is not None}


def _difference(heard: list[int], whole: list[int]) -> str:
    place = next((i for i, (a, b) in enumerate(zip(heard, whole, strict=False)) if a != b), min(len(heard), len(whole)))
    return f"heard {len(heard)} tokens of {len(whole)}, other ones from the {place + 1}. on"


async def cut(
    target: Target,
    workload: Workload,
    *,
    conversations: int,
    cuts: int,
    patience_s: float,
    limit_s: float,
    stop: asyncio.Event,
    judged: Callable[[Verdict], None],
) -> list[Verdict]:
    """All conversations at once, as far as they come within `limit_s`."""
    found: list[Verdict] = []
    async with connections() as http:
        talks = [Talk(http, target, cuts, patience_s, f"{workload.seed}/cuts/{n}") for n in range(conversations)]

        async def converse(number: int, talk: Talk) -> None:
            for turn in range(workload.turns):
                verdict = await talk.say(workload.turn(number, turn))
                found.append(verdict)
                judged(verdict)

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for number, talk in enumerate(talks):
                    group.create_task(converse(number, talk))

        await until(all_of_them(), limit_s, stop)
        await asyncio.gather(*(talk.forget() for talk in talks))
    return found
