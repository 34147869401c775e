"""The engine's messages: what it is asked, and what it answers.

Every request that was accepted gets exactly one `Finished` or one `Cold`, and nothing after it. All of a tick's outputs
go out together, in the order they came about: an `Evicted` before the `Admitted` it made room for, a last `Token`
before its `Finished`.

It knows nothing of text: a stop string is a `Watch` that the engine asks without knowing what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from model.sampling import SamplingParams
from model.state import State


class EngineStoppedError(RuntimeError):
    """The engine takes no more requests: it is draining or stopped."""


class Tier(StrEnum):
    """Where the state came from that a request went on from."""

    slot = "slot"
    state = "state"
    new = "new"


class Finish(StrEnum):
    """Why a generation ended."""

    eos = "eos"
    length = "length"
    stop = "stop"
    cancelled = "cancelled"
    interrupted = "interrupted"
    error = "error"


class Watch(Protocol):
    """Looks at every sampled token that is not an end token; called on the engine thread, so it must be quick."""

    def push(self, token: int) -> bool:
        """True: the generation ends with this token (`Finish.stop`)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One generation.

    id: no two live at once; it is free again after a `Finished` that holds nothing, or after `keep` or `drop`.
    session: handed back in `Evicted`, otherwise not looked at.
    group: requests that wait for a slot are admitted round-robin between groups (the tenant).
    warm: key of the warm row to go on from; that row is taken. Where it is gone the answer is `Cold`.
    state: one row to go on from (copied). With neither, the row starts empty. Not both.
    tokens: to be read, in order; at least one. They begin with the state's pending token, where it has one.
    forced: tokens of this generation that were emitted before a takeover: read after `tokens`, counted for `max_tokens`
        and penalties, never published again, not shown to `watch` (whoever made it has shown it them).
    penalised: this turn's input, for the repetition penalty.
    max_tokens: of the generation, `forced` included. 0 reads `tokens` and ends, with nothing generated.
    stop_ids: a sampled token among these ends the generation with `Finish.eos` and is its last token.
    """

    id: str
    session: str
    tokens: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    group: str = ""
    warm: str | None = None
    state: State | None = None
    forced: tuple[int, ...] = ()
    penalised: tuple[int, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    watch: Watch | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` where a rule above is broken."""
        if not self.tokens:
            raise ValueError("a request reads at least one token")
        if self.warm is not None and self.state is not None:
            raise ValueError("a request goes on from a warm row or from a state, not from both")
        if self.state is not None and self.state.rows != 1:
            raise ValueError(f"a request goes on from one row, not {self.state.rows}")
        if self.max_tokens < 0:
            raise ValueError(f"max_tokens is {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds by the engine's clock, each since the request was submitted; None for what did not happen."""

    admitted_s: float | None
    first_token_s: float | None
    finished_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request has a slot; its tokens will be read from the next tick on."""

    id: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class Cold:
    """The warm row the request named is not there (any more): nothing was done. Submit again with a state.

    Where it was evicted, its `Evicted` went out before this.
    """

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token was sampled, the end token included.

    position: its absolute place in the sequence, from 0. logprob, top: as in `model.sampling.Sampled`.
    """

    id: str
    position: int
    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation is over.

    generated: all its tokens, `forced` first. read: how many of the request's `tokens` and `forced` were read.
    held: True where the row has read everything but the last generated token (which its `pending` leaf holds) and
        waits, in its slot, for `keep` or `drop`. False: there is no row (any more), and nothing to do.
    error: for `Finish.error`, what happened, in words.
    """

    id: str
    reason: Finish
    generated: tuple[int, ...]
    read: int
    held: bool
    error: str | None
    timings: Timings


@dataclass(frozen=True, slots=True, eq=False)
class Evicted:
    """A warm row had to make room. state: a copy of it on the CPU, one row."""

    key: str
    session: str
    state: State


Output = Admitted | Cold | Token | Finished | Evicted


@dataclass(frozen=True, slots=True)
class Stats:
    """Rows and requests at the end of the last tick; the rest counts from the start."""

    decoding: int = 0
    reading: int = 0
    parked: int = 0
    held: int = 0
    warm: int = 0
    free: int = 0
    waiting: int = 0
    ticks: int = 0
    tick_s: float = 0.0  # length of the last tick that ran the model
    busy_s: float = 0.0  # of all of them
    read_tokens: int = 0
    sampled_tokens: int = 0
    evictions: int = 0
    failures: int = 0
