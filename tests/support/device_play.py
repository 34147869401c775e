"""A story that an engine plays, for models on any device: turns side by side, an eviction, a snapshot and back, a
memory that is cleaned, turns that go on from each; what is said is to be compared with the same model elsewhere."""

from __future__ import annotations

import random
from concurrent.futures import Future
from dataclasses import dataclass

from torch import Tensor

from model.memory import Kind, Operation, operate
from model.sampling import SamplingParams
from model.state import Model, State
from model.svd_clean import Cut
from server.engine.request import Token
from server.worker.states import from_snapshot, to_snapshot
from support.desk import Desk

GREEDY = SamplingParams(temperature=0, logprobs=5)
DRAWN = SamplingParams(
    temperature=0.8, top_k=40, top_p=0.95, min_p=0.001, repetition_penalty=1.1, frequency_penalty=0.2, seed=7,
    logit_bias={3: 1.5}, banned=frozenset({257}), logprobs=5,
)  # fmt: skip
OPEN = SamplingParams(temperature=1.0, seed=3, logprobs=5)
# Each turn, and the one that it goes on from.
TURNS = {
    "greedy": None,
    "drawn": None,
    "other": None,
    "after a snapshot": "greedy",
    "warm": "drawn",
    "cleaned": "drawn",
}


@dataclass(frozen=True)
class Played:
    """said: by turn. states: copies of rows, on the CPU. before, after: logits (V,) of a cleaning's probes."""

    said: dict[str, list[Token]]
    states: dict[str, State]
    before: Tensor
    after: Tensor


def words(n: int, seed: int) -> list[int]:
    """Bytes at random."""
    return random.Random(seed).choices(range(256), k=n)


def play(model: Model, tokens: int = 8) -> Played:
    """Two rows, chunks of 16; every turn generates so many tokens."""
    d = Desk(model, slots=2, chunk=16, beside=32, alone=64)
    d.submit("greedy", words(40, 1), sampling=GREEDY, max_tokens=tokens)
    d.submit("drawn", words(23, 2), sampling=DRAWN, max_tokens=tokens, penalised=tuple(words(23, 2)))
    d.run()
    for turn in ("greedy", "drawn"):
        d.engine.keep(turn, turn)
    states = {turn: d.read(turn) for turn in ("greedy", "drawn")}

    d.submit("other", words(5, 3), sampling=OPEN, max_tokens=tokens)
    d.run()
    d.engine.drop("other")
    evicted = d.evicted["greedy"].state
    assert evicted.equal(states["greedy"])
    restored = from_snapshot(model.spec, to_snapshot(evicted, "a model"), "a model")

    cleaned = d.read("drawn")
    _, told = operate(model.memory, cleaned, Operation(Kind.CLEAN, cut=Cut(1.0, drop_top=1)))
    assert told
    pending = int(cleaned["pending"][0]) - 1
    probes: list[Future[Tensor]] = [d.engine.probe(one.clone(), pending) for one in (states["drawn"], cleaned)]
    d.engine.tick()
    before, after = (probe.result(timeout=0) for probe in probes)

    for turn, state in (("after a snapshot", restored), ("cleaned", cleaned)):
        read = [int(state["pending"][0]) - 1, *words(19, 4)]
        d.submit(turn, read, sampling=OPEN, max_tokens=tokens, state=state)
        if turn == "after a snapshot":
            d.submit("warm", [pending, *words(7, 5)], sampling=OPEN, max_tokens=tokens, warm="drawn")
        d.run()
        for done in ("after a snapshot", "warm") if turn == "after a snapshot" else ("cleaned",):
            d.engine.keep(done, done)
            states[done] = d.read(done)
    said = {turn: [o for o in d.said if isinstance(o, Token) and o.id == turn] for turn in TURNS}
    assert all(len(one) == tokens for one in said.values())
    return Played(said, states, before, after)
