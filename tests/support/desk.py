"""For tests of the engine: a tiny recurrent model, exact in integers, and a desk that runs an engine by hand.

The model has a real state, and gives the same logits in any batch and at any chunk size: so what the engine does can be
compared bit by bit with the plain loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from model.generate import generate
from model.sampling import Sampled, SamplingParams
from model.state import LeafSpec, Model, State, StateSpec
from server.engine.loop import Engine
from server.engine.request import Admitted, Cold, Evicted, Finished, Output, Request, Token

K, W, P = 4, 8, 1_000_003


class Toy:
    """h ← h·(3, 5, 7, 11) + token + position + the ring's oldest token, mod P; logits from a hash of h."""

    vocab_size = 41
    device = torch.device("cpu")
    NAN = 39  # once read, the row's logits are NaN
    BANG = 40  # reading it raises

    def __init__(self) -> None:
        self.spec = StateSpec(
            {
                "h": LeafSpec((K,), torch.int64, "hash of everything read"),
                "ring": LeafSpec((W,), torch.int64, "the last tokens", ring_axis=0),
                "taint": LeafSpec((), torch.float32, "NaN once a NaN token was read"),
            }
        )
        self.calls: list[tuple[int, int]] = []  # (B, T) of every call

    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        self.calls.append((tokens.shape[0], tokens.shape[1]))
        mul = torch.tensor([3, 5, 7, 11])
        for t in range(tokens.shape[1]):  # written as it goes, so a failure leaves half-advanced states behind
            live = t < lengths  # (B,)
            if bool((live & (tokens[:, t] == self.BANG)).any()):
                raise RuntimeError("the model went bang")
            at = (state["position"] % W)[:, None]
            oldest = state["ring"].gather(1, at)
            h = (state["h"] * mul + tokens[:, t : t + 1] + state["position"][:, None] + oldest) % P
            state["h"].copy_(torch.where(live[:, None], h, state["h"]))
            state["ring"].scatter_(1, at, torch.where(live[:, None], tokens[:, t : t + 1] + 1, oldest))
            state["taint"].masked_fill_(live & (tokens[:, t] == self.NAN), float("nan"))
            state["position"].add_(live)
        v = torch.arange(self.vocab_size)
        mixed = (state["h"].sum(1, keepdim=True) * 31 + state["h"][:, v % K] * (v + 1)) % 1009  # (B, V)
        logits = mixed.float() / 200 + state["taint"][:, None]
        logits[:, 37:] = -50.0 + state["taint"][:, None]  # the special tokens are never drawn
        return logits.masked_fill((lengths == 0)[:, None], float("nan")), state

    def unroll(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An engine that is ticked by hand, and what it has said, by request id."""

    def __init__(self, model: Model, slots: int = 4, chunk: int = 4, beside: int = 8, alone: int = 16) -> None:
        self.clock = Clock()
        self.model = model
        self.said: list[Output] = []
        self.ticks: list[list[Output]] = []  # each publication
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.positions: dict[str, list[int]] = defaultdict(list)
        self.finished: dict[str, Finished] = {}
        self.evicted: dict[str, Evicted] = {}
        self.engine = Engine(model, slots, chunk, beside, self._hear, self.clock, prompt_budget_alone=alone)

    def _hear(self, outputs: Sequence[Output]) -> None:
        assert outputs, "an empty publication"
        self.ticks.append(list(outputs))
        self.said += outputs
        for output in outputs:
            match output:
                case Token():
                    assert output.id not in self.finished, "a token after the end"
                    self.tokens[output.id].append(output.token)
                    self.positions[output.id].append(output.position)
                case Finished() | Cold():
                    assert output.id not in self.finished, "two ends"
                    if isinstance(output, Finished):
                        self.finished[output.id] = output
                case Evicted():
                    self.evicted[output.key] = output
                case Admitted():
                    pass

    def submit(self, request_id: str, tokens: Sequence[int], **fields: Any) -> Request:
        fields.setdefault("sampling", SamplingParams(temperature=0))
        fields.setdefault("max_tokens", 5)
        fields.setdefault("session", f"session of {request_id}")
        request = Request(id=request_id, tokens=tuple(tokens), **fields)
        self.engine.submit(request)
        return request

    def run(self, most: int = 1000) -> int:
        """Tick until nothing is left to do; returns how many ticks that took."""
        for n in range(1, most):
            if not self.engine.tick():
                return n
        raise AssertionError("the engine never came to rest")

    def read(self, key: str) -> State:
        """The warm state of that key."""
        copied: Future[State] = self.engine.copy(key)
        self.engine.tick()
        return copied.result(timeout=0)


def lone(model: Model, request: Request, state: State | None = None) -> tuple[list[Sampled], State]:
    """The plain loop's run of the same request, and the state it leaves."""
    state = State.zeros(model.spec, 1) if state is None else state.clone()
    tokens = list(
        generate(model, request.tokens, request.sampling, request.max_tokens, request.stop_ids, state, chunk=7)
    )
    return tokens, state
