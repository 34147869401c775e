"""One conversation with a server, in its own dialect or in OpenAI's, each answer timed as it streams in.

    Native   `/v1/generate`: only what is new is sent, the server holds the session
    Chat     `/v1/chat/completions` of any server: the whole history is sent again on each turn

Invariants: a turn never raises for what the server or the network did, it ends as an `Outcome` that names the kind of
error; it takes at most `timeout_s`. No text of an answer or a prompt is in an error's kind.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import httpx

from loadtest.sse import Event, events
from loadtest.stats import Outcome
from loadtest.workload import Turn

Api = Literal["native", "openai"]
CONNECT_S = 10.0
A_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class TargetError(Exception):
    """The server cannot be tested: its message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. api: the dialect. model: its name there; None asks. key: a bearer key. extra: more of each request's
    body. timeout_s: of one turn, from when it is sent."""

    url: str
    api: Api = "native"
    model: str | None = None
    key: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0


class Conversation(Protocol):
    """What a user is to a server."""

    async def say(self, turn: Turn, due: float) -> Outcome:
        """One turn. due: when it should have been sent, by `time.perf_counter`; its times count from then."""

    async def forget(self) -> None:
        """Have the server delete what it keeps of it, where that can be asked for."""


@dataclass(slots=True)
class Ear:
    """What has been heard of one answer. pieces: tokens as they came; read, cached, generated: as the server counted
    them. ended: it said itself that it is whole."""

    first: float | None = None
    last: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    pieces: int = 0
    read: int = 0
    cached: int = 0
    generated: int = 0
    error: str | None = None
    ended: bool = False

    def token(self, text: str, at: float, count: int = 1) -> None:
        """An event that brought `count` tokens."""
        if self.first is None:
            self.first = at
        else:
            self.gaps_s.append(at - self.last)
        self.last = at
        self.pieces += count
        self.text.append(text)


class Caller:
    """What both dialects share: a request sent and heard to its end, whatever becomes of it."""

    def __init__(self, http: httpx.AsyncClient, target: Target) -> None:
        self.http = http
        self.target = target
        self.headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}

    async def ask(self, path: str, body: Mapping[str, Any]) -> Ear:
        """Post it and hear the answer. Never raises what a server or a network can do."""
        ear = Ear()
        try:
            async with asyncio.timeout(self.target.timeout_s):
                await self._hear(ear, path, {**body, **self.target.extra})
        except TimeoutError:
            ear.error = "timeout"
        except httpx.TimeoutException:
            ear.error = "connection timeout"
        except httpx.TransportError as error:
            ear.error = ("broken stream" if ear.pieces else "connection") + f": {type(error).__name__}"
        except (ValueError, KeyError, TypeError, AttributeError):
            ear.error = "unreadable answer"
        if ear.error is None and not ear.ended:
            ear.error = "stream ended early"
        return ear

    async def _hear(self, ear: Ear, path: str, body: Mapping[str, Any]) -> None:
        url = self.target.url + path
        async with self.http.stream("POST", url, json=body, headers=self.headers) as response:
            if response.status_code != 200:
                ear.error = f"{response.status_code} {_code(await response.aread())}".rstrip()
                return
            async for event in events(response.aiter_bytes()):
                self.take(ear, event)

    def take(self, ear: Ear, event: Event) -> None:
        """One event, in this dialect."""
        raise NotImplementedError


def _code(body: bytes) -> str:
    """The code of an error in OpenAI's shape; "" where there is none that could be one."""
    try:
        error = json.loads(body)["error"]
        found = str(error["code"] or error["type"])
    except (ValueError, KeyError, TypeError):
        return ""
    return found if A_CODE.fullmatch(found) else ""


def _outcome(turn: Turn, due: float, epoch: float, ear: Ear) -> Outcome:
    return Outcome(
        conversation=turn.conversation,
        number=turn.number,
        began=due - epoch,
        e2e_s=time.perf_counter() - due,
        ttft_s=None if ear.first is None else ear.first - due,
        gaps_s=tuple(ear.gaps_s),
        read_tokens=ear.read,
        cached_tokens=ear.cached,
        tokens=ear.generated or ear.pieces,
        error=ear.error,
    )


class Native(Caller):
    """A session of the server's; answers have the length that was asked for."""

    def __init__(self, http: httpx.AsyncClient, target: Target, epoch: float) -> None:
        """epoch: the run's beginning, by `time.perf_counter`."""
        super().__init__(http, target)
        self._epoch = epoch
        self._session: str | None = None

    async def say(self, turn: Turn, due: float) -> Outcome:
        """See Conversation."""
        held = {} if self._session is None else {"session_id": self._session}
        message = {"role": "user", "content": turn.text}
        asked = {"messages": [message], "max_tokens": turn.max_tokens, "seed": turn.seed, "ignore_eos": True, **held}
        return _outcome(turn, due, self._epoch, await self.ask("/v1/generate", asked))

    def take(self, ear: Ear, event: Event) -> None:
        """An event of `/v1/generate`."""
        data = json.loads(event.data)
        if event.kind == "start":
            self._session = str(data["session"])
        elif event.kind == "token":
            ear.token(data["text"], event.at, len(data["token_ids"]))
        elif event.kind == "done":
            used, ear.ended = data["usage"], True
            ear.read, ear.cached = used["prompt_tokens"], used["cached_tokens"]
            ear.generated = used["completion_tokens"]
        elif event.kind == "error":
            ear.error = f"in the stream: {_code(event.data)}".rstrip(": ")

    async def forget(self) -> None:
        """Delete the session."""
        if self._session is not None:
            url = f"{self.target.url}/v1/sessions/{self._session}"
            await self.http.delete(url, headers=self.headers, timeout=CONNECT_S)


class Chat(Caller):
    """Messages that grow; nothing is held by the server that this would know of."""

    def __init__(self, http: httpx.AsyncClient, target: Target, epoch: float) -> None:
        """epoch: the run's beginning, by `time.perf_counter`. target.model has to be named."""
        super().__init__(http, target)
        self._epoch = epoch
        self._history: list[dict[str, str]] = []

    async def say(self, turn: Turn, due: float) -> Outcome:
        """See Conversation. What failed is not part of the history."""
        messages = [*self._history, {"role": "user", "content": turn.text}]
        asked = {
            "model": self.target.model,
            "messages": messages,
            "max_tokens": turn.max_tokens,
            "seed": turn.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        ear = await self.ask("/v1/chat/completions", asked)
        if ear.error is None:
            self._history = [*messages, {"role": "assistant", "content": "".join(ear.text)}]
        return _outcome(turn, due, self._epoch, ear)

    def take(self, ear: Ear, event: Event) -> None:
        """A chunk of `/v1/chat/completions`."""
        if event.data == b"[DONE]":
            ear.ended = True
            return
        chunk = json.loads(event.data)
        if chunk.get("error"):
            ear.error = f"in the stream: {_code(event.data)}".rstrip(": ")
            return
        if used := chunk.get("usage"):
            ear.cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            ear.read = used["prompt_tokens"] - ear.cached
            ear.generated = used["completion_tokens"]
        for choice in chunk.get("choices") or ():
            if text := (choice.get("delta") or {}).get("content"):
                ear.token(text, event.at)

    async def forget(self) -> None:
        """There is nothing that it could name."""


def converse(http: httpx.AsyncClient, target: Target, epoch: float) -> Conversation:
    """A new conversation in the target's dialect."""
    return Native(http, target, epoch) if target.api == "native" else Chat(http, target, epoch)


def connections() -> httpx.AsyncClient:
    """What all conversations share. A proxy between would be measured too, so the environment's are not used."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(None, connect=CONNECT_S), trust_env=False)


async def known(http: httpx.AsyncClient, target: Target) -> Target:
    """The target with its model's name. Raises TargetError where it does not answer, or not as its dialect has it."""
    path = "/health/ready" if target.api == "native" else "/v1/models"
    headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
    try:
        answer = await http.get(target.url + path, headers=headers, timeout=CONNECT_S)
        if answer.status_code != 200:
            raise TargetError(f"{target.url}{path} answers {answer.status_code} {_code(answer.content)}".rstrip())
        if target.api == "native" or target.model is not None:
            return target
        return replace(target, model=str(answer.json()["data"][0]["id"]))
    except httpx.HTTPError as error:
        raise TargetError(f"{target.url} does not answer ({type(error).__name__}); is a server running?") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise TargetError(f"{target.url}{path} names no model; give one with --model") from None
