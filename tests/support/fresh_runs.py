"""An answer of a running server beside a fresh run of the plain loop, fed the same runs of tokens from the beginning.

What the server read and generated is taken from the session's exported file, so nothing here renders a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import torch

from model.sampling import SamplingParams
from server.store.archive_format import read_archive
from support.oracle import Oracle


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token as an api reports it. top: log probabilities of the likeliest, falling."""

    logprob: float
    top: list[float]


def drawn(reported: Sequence[Any]) -> list[Drawn]:
    """`logprobs.content` of a chat completion, or `logprobs` of an output text."""
    return [Drawn(one.logprob, [top.logprob for top in one.top_logprobs]) for one in reported]


@dataclass(frozen=True, slots=True)
class Run:
    """Token runs: all that stood before a turn, what it read, what it generated."""

    before: list[int]
    read: list[int]
    generated: list[int]


def run_of(url: str, about: dict[str, Any], made: int, headers: dict[str, str] | None = None) -> Run:
    """The runs up to an answer's turn. about: its `perennial`; made: its completion tokens."""
    exported = httpx.get(f"{url}/v1/sessions/{about['session_id']}/export", headers=headers, timeout=60)
    archive = read_archive(exported.raise_for_status().content)
    turns = {turn.id: turn for turn in archive.turns}
    turn = turns[about["turn"].rpartition("_")[2]]
    assert archive.turns[0].parent is None, "the session does not keep its beginning"
    tokens = [int(token) for token in archive.tokens]
    begin = turn.length - turn.count
    return Run(tokens[:begin], tokens[begin : turn.length - made], tokens[turn.length - made : turn.length])


def apart(oracle: Oracle, run: Run, said: Sequence[Drawn], params: SamplingParams) -> float:
    """How far the reported log probabilities are from a fresh run's, nats; it must draw the very same tokens.

    The last token may have none: an end token is not reported.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # beside the server's own, more of them only wait for each other
    try:
        fresh = oracle.turn(run.before, run.read, len(run.generated), params)
    finally:
        torch.set_num_threads(threads)
    assert [token for token, _ in fresh] == run.generated
    assert len(run.generated) - 1 <= len(said) <= len(run.generated)
    assert said
    worst = 0.0
    for one, (token, expected) in zip(said, fresh, strict=False):
        likeliest = expected.topk(len(one.top)).values.tolist()
        pairs = [(one.logprob, float(expected[token])), *zip(one.top, likeliest, strict=True)]
        worst = max(worst, *(abs(got - due) for got, due in pairs))
    return worst
