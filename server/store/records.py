"""The messages between api, store and worker: frozen records of plain numbers, strings and bytes.

A session is a sequence of tokens x_0 … x_{N-1} (`length` N). Its state has read N-1 of them; the last is pending.
A turn is immutable and holds the run it appended: what it read, then what it generated; or, with no run at all, what
was done to the session's memory.
They know nothing of Redis, of tensors or of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

# What a worker proves its right to write with: "<counter>-<nonce>". The counter orders owners, the nonce tells two
# owners apart whom a failover of the store gave the same counter.
Fence = NewType("Fence", str)


class End(StrEnum):
    """How a sequence ends, so that the next turn knows what to close first."""

    EOS = "eos"  # the last token is the template's end token
    OPEN = "open"  # an assistant message cut by length, stop or cancel
    RAW = "raw"  # came from a raw prompt: nothing to close


class Status(StrEnum):
    """Where a generation stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (Status.DONE, Status.FAILED, Status.CANCELLED)


class Outcome(StrEnum):
    """What became of a worker's write, or of its wish to begin."""

    OK = "OK"
    CANCEL = "CANCEL"  # written, and someone has asked for this generation to stop
    FENCED = "FENCED"  # not written: someone newer holds the session, or the generation has ended
    ENDED = "ENDED"  # nothing left to write to: the generation has ended, or the session is no more


@dataclass(frozen=True, slots=True)
class Turn:
    """One immutable turn.

    tokens: the run it appended, int32 each. length: tokens of the sequence up to and with this turn. end: an `End`.
    finish: the finish reason ("stop", "length", "cancelled"). created: Unix time, s. digest: of the conversation up to
    and with it (history.py), where it was begun with one. operation: of a turn that appends nothing, what it did to the
    memory: plain JSON, complete enough to be done again (`model.memory.Operation`).
    """

    id: str
    parent: str | None
    tokens: tuple[int, ...]
    length: int
    end: End
    finish: str
    created: float
    digest: str | None = None
    operation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """A turn's place in the tree. tokens: how many it appended; nbytes: stored for it; operation: its kind, None for a
    turn of the conversation; the rest as in `Turn`."""

    id: str
    parent: str | None
    tokens: int
    length: int
    end: End
    nbytes: int
    finish: str = ""
    created: float = 0.0
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A branch of a lineage. Times are Unix times in s; `head` is None before the first committed turn.

    state_bytes: of one state of its model, whatever the session's age. stored_bytes: of the turns and snapshots that
    it needs; what it shares with a fork counts in both. turns: on the way to its head; kept: those of them that are
    still stored, the newest. running: the generation that holds it, if any. stored: False for a session that ends with
    its only answer. worker, tier: who committed its head, and where that worker last said it has the state ("slot",
    "ram", or "redis": not any more). origin: the session and turn it was forked from.
    """

    id: str
    tenant: str
    model: str
    fingerprint: str
    head: str | None
    length: int
    end: End
    created: float
    updated: float
    expires: float
    running: str | None
    state_bytes: int
    stored_bytes: int
    turns: int
    kept: int
    stored: bool = True
    worker: str | None = None
    tier: str = "redis"
    origin: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class NewSession:
    """What `accept` makes a session from, in the same script that accepts its first turn."""

    tenant: str
    model: str
    fingerprint: str
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """key: the client's name for one request, whatever it holds. digest: of that request, plain ASCII."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a worker needs to run a turn, and nothing else.

    sampling: fields of `model.sampling.SamplingParams` by name, the seed among them. on_disconnect: "cancel" or
    "continue". continue_final: the input ends in an assistant message that is to be continued. history: the digest of
    the conversation up to and with the input (history.py), where the turn is to be found by it. operation: to be done
    to the session's memory instead of reading and generating anything; as in `Turn`; with `store` false it is only
    tried. by: who asked for that, "client" or "policy". trace: the W3C traceparent of who asked for the turn.
    """

    input_ids: tuple[int, ...]
    max_tokens: int
    sampling: Mapping[str, Any]
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    raw: bool = False
    store: bool = True
    logprobs: int | None = None
    on_disconnect: str = "cancel"
    continue_final: bool = False
    history: str | None = None
    operation: Mapping[str, Any] | None = None
    by: str = "client"
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a generation ended. turn: the committed turn, None where nothing was kept. error: in OpenAI's shape.

    report: of an operation on the memory, what it found and did, as plain JSON.
    """

    finish_reason: str
    usage: Mapping[str, Any]
    timing: Mapping[str, Any]
    position: int
    turn: str | None = None
    error: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One asked-for turn. request: None once it has ended: its tokens are in the turn, or meant to be forgotten."""

    id: str
    session: str
    tenant: str
    status: Status
    request: TurnRequest | None
    cancel: bool
    result: Result | None
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a generation's stream. sequence counts from 1 without holes; type: start, token, done or error."""

    sequence: int
    type: str
    data: Mapping[str, Any]

    @property
    def final(self) -> bool:
        """True for the event after which no other comes."""
        return self.type in ("done", "error")


@dataclass(frozen=True, slots=True)
class Begun:
    """A generation that is this worker's now. emitted: events earlier owners appended, to be fed as forced tokens."""

    generation: Generation
    request: TurnRequest
    session: Session
    fence: Fence
    emitted: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry of the work queue in this worker's hands. count: times it was delivered, this one among them.

    stream: the worker before whom it waited, whose stream it is in; "" for everybody's.
    """

    id: str
    generation: str
    count: int = 1
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker. info: what its heartbeat says of it (model, fingerprint, slots, running, device, started)."""

    id: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Sessions, newest first. after: the cursor of the next page, None on the last."""

    sessions: tuple[Session, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class LeafBytes:
    """One leaf of one session's state. dtype: its name without "torch." ("float32", "bfloat16", "int64").

    shape: without the batch axis. ring_axis: as in `LeafSpec`. data: C-contiguous little-endian bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    ring_axis: int | None
    data: bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state as bytes. position: tokens it has read; spec_hash: `StateSpec.hash()`; leaves in the spec's order."""

    fingerprint: str
    spec_hash: str
    position: int
    leaves: Mapping[str, LeafBytes] = field(default_factory=dict)
