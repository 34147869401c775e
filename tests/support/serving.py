"""The real api as a process, a real Valkey, and a worker that does what a test tells it to.

The scripted worker uses the store exactly as a worker does (claim, begin, append, commit); only where its tokens come
from is the test's business.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from server.errors import StoreUnavailable
from server.settings import PREFIX
from server.store import keys as ids
from server.store.records import Begun, End, Event, Outcome, Result, Turn
from server.store.store import Store, StoreOptions, open_store

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATIENCE_S = 20.0


def tiny_tokenizer(folder: Path, template: str | None = CHATML) -> Path:
    """A byte-level tokeniser directory: id = byte, <|im_start|> = 256, <|im_end|> = 257."""
    # The printable bytes stand for themselves; the others, in order, are spelled from U+0100 on.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=ord)
    printable = {ord(character) for character in alphabet if ord(character) < 256}
    others = iter([byte for byte in range(256) if byte not in printable])
    vocabulary = {character: ord(character) if ord(character) < 256 else next(others) for character in alphabet}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in ("<|im_start|>", "<|im_end|>")]
    )
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>"} | ({"chat_template": template} if template else {}))
    )
    return folder


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without its own settings, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {PREFIX + name.upper(): value for name, value in settings.items()}


class Process:
    """A `perennial` command; its output is read as it comes, its errors are kept for the message of a failure."""

    def __init__(self, command: str, *flags: str, cwd: Path, script: bool = False, **settings: str) -> None:
        """command: of `perennial`, or (`script`) a file of Python that stands for it."""
        self._errors: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.popen = subprocess.Popen(
            [sys.executable, *(() if script else ("-m", "server.cli")), command, *flags],
            env=clean_environment(**settings),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=self._read_lines), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read_lines(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.popen.stderr is not None
        self._errors.extend(self.popen.stderr)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def line(self, patience_s: float = PATIENCE_S) -> str:
        """The next line it says to its user."""
        line = self._lines.get(timeout=patience_s)
        if line is None:
            raise AssertionError(f"it ended: {self.errors()}")
        return line

    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return "".join(self._errors)

    def wait(self) -> int:
        """Its exit code, once it ends by itself."""
        code = self.popen.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.wait()
            raise
        finally:
            for pipe in (self.popen.stdout, self.popen.stderr):
                assert pipe is not None
                pipe.close()

    def url(self) -> str:
        """The address in the first line."""
        return next(word for word in self.line().split() if word.startswith("http://"))


@contextmanager
def running_api(cwd: Path, **settings: str) -> Iterator[tuple[str, Process]]:
    """`perennial api` on a free port: its address, once it answers, and its process."""
    with Process("api", cwd=cwd, port="0", log_format="json", **settings) as process:
        url = process.url()
        wait_for(lambda: _answers(f"{url}/health/live"))
        yield url, process


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def wait_for(condition: Any, seconds: float = PATIENCE_S) -> None:
    """Returns as soon as a condition holds; fails when it has not for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)


async def until(look: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_S) -> None:
    """Returns as soon as what is looked at is true; fails when it has not been for so long."""
    async with asyncio.timeout(seconds):
        while True:
            if await look():
                return
            await asyncio.sleep(0.005)


class ScriptedWorker:
    """A worker whose tokens are the test's. Its heartbeat runs while it is open."""

    def __init__(self, store: Store, tokenizer: str, fingerprint: str = "model-1") -> None:
        self.store = store
        self.id = ids.new_nonce()
        self.info = {
            "model": "tiny",
            "fingerprint": fingerprint,
            "tokenizer": tokenizer,
            "state_bytes": 4096,
            "state_spec": "0" * 16,
            "window": 16,
            "slots": 4,
            "running": 0,
            "device": "cpu",
            "started": 0.0,
        }

    async def beat(self) -> None:
        """Say that it lives, for ever."""
        while True:
            with suppress(StoreUnavailable):
                await self.store.queue.heartbeat(self.id, self.info)
            await asyncio.sleep(0.5)

    async def take(self) -> Running:
        """The next turn, begun; fails when none comes."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for delivery in await self.store.queue.claim(self.id, 1, 1000):
                begun = await self.store.turns.begin(delivery.generation, self.id)
                await self.store.queue.ack([delivery])
                if begun is not None:
                    return Running(self.store, begun, self.id)
        raise AssertionError("no turn came")


class Running:
    """A turn in the scripted worker's hands."""

    def __init__(self, store: Store, begun: Begun, worker: str) -> None:
        self.store = store
        self.begun = begun
        self.worker = worker
        self.sequence = 0
        self.tokens: list[int] = []

    async def _append(self, kind: str, data: dict[str, Any]) -> Outcome:
        self.sequence += 1
        event = Event(self.sequence, kind, data)
        return await self.store.turns.append(self.begun.generation.id, self.begun.fence, [event])

    async def start(self, source: str = "new") -> Outcome:
        begun = self.begun
        return await self._append(
            "start",
            {
                "generation": begun.generation.id,
                "session": begun.session.id,
                "position": begun.session.length,
                "restored": {"from": source, "replayed_tokens": 0},
                "seed": begun.request.sampling["seed"],
                "prompt_tokens": len(begun.request.input_ids),
            },
        )

    async def say(self, text: str) -> Outcome:
        """One token event; the token ids are the text's bytes, as tiny as the tokeniser."""
        self.tokens += text.encode()
        return await self._append("token", {"text": text, "token_ids": list(text.encode())})

    async def operate(self) -> Outcome:
        """End an operation on the memory with a report; what is kept of it is a turn without tokens."""
        begun, asked = self.begun, self.begun.request.operation
        assert asked is not None
        look = asked["kind"] == "inspect"
        turn = Turn(
            id=ids.turn_of(begun.generation.id),
            parent=begun.session.head,
            tokens=(),
            length=begun.session.length,
            end=begun.session.end,
            finish="operation",
            created=0.0,
            operation=asked,
        )
        kept = turn if begun.request.store else None
        place = {"layer": 1, "memory": 0, "head": 0, "rank": 1, "effective_rank": 1.0, "singular_values": [2.0]}
        more = (
            {"norm": 2.0, "norm_z": 1.0, "gates": [0.5], "writes": 3}
            if look
            else {"retained_rank": 1, "energy_retained": 1.0, "norm": 2.0, "norm_after": 2.0}
        )
        said: dict[str, Any] = {
            "finish_reason": "operation",
            "usage": {},
            "timing": {"queued_s": 0.0, "first_token_s": None, "total_s": 0.0},
            "position": begun.session.length,
            "turn": kept.id if kept else None,
            "report": {
                **asked,
                "frozen": asked["kind"] == "freeze",
                "matrices": [place | more] if look or asked["kind"] == "svd-clean" else [],
            },
        }
        self.sequence += 1
        final = Event(self.sequence, "done", said)
        return await self.store.turns.commit(begun, kept, Result(**said), final, self.worker)

    async def finish(self, reason: str = "stop", *, warm: bool = False) -> Outcome:
        """Commit the turn and say `done`. warm: and that the state stays with this worker."""
        begun, request = self.begun, self.begun.request
        position = begun.session.length + len(request.input_ids) + len(self.tokens)
        turn = None
        if request.store and self.tokens:
            turn = Turn(
                id=ids.turn_of(begun.generation.id),
                parent=begun.session.head,
                tokens=(*request.input_ids, *self.tokens),
                length=position,
                end=End.RAW if request.raw else End.OPEN,
                finish=reason,
                created=0.0,
            )
        usage = {
            "prompt_tokens": len(request.input_ids),
            "completion_tokens": len(self.tokens),
            "total_tokens": len(request.input_ids) + len(self.tokens),
            "cached_tokens": begun.session.length,
        }
        result = Result(reason, usage, {"queued_s": 0.0, "total_s": 0.1}, position, turn.id if turn else None)
        self.sequence += 1
        data = {
            "finish_reason": reason,
            "usage": usage,
            "timing": result.timing,
            "position": position,
            "turn": result.turn,
        }
        final = Event(self.sequence, "done", data)
        return await self.store.turns.commit(begun, turn, result, final, self.worker if warm else None)

    async def fail(self, error: dict[str, Any]) -> Outcome:
        self.sequence += 1
        return await self.store.turns.fail(self.begun, error, Event(self.sequence, "error", {"error": error}))

    async def cancelled(self) -> None:
        """Returns once somebody has asked for this turn to be cancelled."""
        gid = self.begun.generation.id
        await until(lambda: self.store.queue.cancelled([gid]))


@asynccontextmanager
async def scripted_worker(url: str, prefix: str, tokenizer: str, **more: str) -> AsyncIterator[ScriptedWorker]:
    """A scripted worker that lives, and is off the list when it leaves."""
    store = await open_store(StoreOptions(url=url, prefix=prefix))
    worker = ScriptedWorker(store, tokenizer, **more)
    await store.queue.heartbeat(worker.id, worker.info)
    beating = asyncio.create_task(worker.beat())
    try:
        yield worker
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        with suppress(Exception):
            await store.queue.retire(worker.id)
        await store.close()


async def read_events(response: httpx.Response) -> list[tuple[str, str, Any]]:
    """The rest of a stream: (id, event, data) each; comments left out."""
    return [event async for event in each_event(response.aiter_lines())]


async def each_event(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str, Any]]:
    """Events as they come."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
            fields = {}


def texts(events: Sequence[tuple[str, str, Any]]) -> str:
    """What the token events say together."""
    return "".join(data["text"] for _, kind, data in events if kind == "token")
