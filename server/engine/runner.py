"""Carries a plan out: the model over views of the pool, then one batched draw for every row that is read up.

Invariants: the decode batch is a view of the pool's first rows and a chunk a view of one row, nothing is gathered or
padded; a failure is laid to the row it came from where that can be told (its own chunk, NaN in its logits, its own
draw), else to the rows of that call, and never reaches another call. It decides nothing: what to read is the plan's,
what a token means is the tick's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.sampling import Sampled, sample
from model.state import Model, State, as_rows
from server.engine.job import Job
from server.engine.scheduler import Plan
from server.engine.slots import Slots

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ran:
    """What became of a plan. sampled, failed (in words): by request id. read: tokens the model read."""

    sampled: dict[str, Sampled] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    read: int = 0


class Runner:
    """One model and the slots it advances."""

    def __init__(self, model: Model, slots: Slots) -> None:
        self._model = model
        self._slots = slots

    @torch.inference_mode()
    def run(self, plan: Plan, jobs: Mapping[str, Job]) -> Ran:
        """One tick: the decode batch, the chunks, the draws. `jobs` by request id, advanced as their rows are."""
        ran = Ran()
        ready: list[Job] = []
        logits: list[Tensor] = []
        if plan.decode:
            batch = [jobs[name] for name in self._slots.front(plan.decode)]
            self._read(batch, 1, self._slots.batch(len(batch)), ran, ready, logits)
        for chunk in plan.chunks:
            if chunk.id not in ran.failed:
                self._read([jobs[chunk.id]], chunk.count, self._slots.view(chunk.id), ran, ready, logits)
        if ready:
            self._draw(ready, logits[0] if len(logits) == 1 else torch.cat(logits), ran)
        return ran

    @torch.inference_mode()
    def probe(self, state: State, token: int) -> Tensor:
        """The logits (V,) on the CPU after one token, read into a state of one row, or, elsewhere, a copy of it."""
        device = self._model.device
        out, _ = self._model.advance(*as_rows([[token]], device), state.to(device))
        return out[0].cpu().clone()

    def _read(
        self, batch: Sequence[Job], count: int, state: State, ran: Ran, ready: list[Job], logits: list[Tensor]
    ) -> None:
        """One call: each job's next `count` tokens, state (B rows). Adds who is read up, and those rows' logits."""
        upcoming = [job.upcoming(count) for job in batch]
        try:
            out, _ = self._model.advance(*as_rows(upcoming, state.device), state)  # (B, V)
        except Exception as error:  # whatever the model raises is its rows' failure, never the engine's
            _log.exception("a model call failed", extra={"generations": [job.id for job in batch]})
            ran.failed |= dict.fromkeys((job.id for job in batch), f"{type(error).__name__}: {error}")
            return
        ran.read += count * len(batch)
        rows = [row for row, job in enumerate(batch) if job.advance(count)]
        ready += [batch[row] for row in rows]
        if rows:  # a copy: the model may write the next call's logits into the same memory
            logits.append(out[torch.tensor(rows, device=out.device)])

    def _draw(self, ready: Sequence[Job], logits: Tensor, ran: Ran) -> None:
        """Sample a token for each job; logits (B, V)."""
        try:
            for job, sampled in zip(ready, _sample(ready, logits), strict=True):
                ran.sampled[job.id] = sampled
        except Exception as error:  # one row's NaN or parameters must not end the others: alone, it is told apart
            if len(ready) == 1:
                _log.exception("sampling failed", extra={"generations": [ready[0].id]})
                ran.failed[ready[0].id] = f"{type(error).__name__}: {error}"
                return
            for row, job in enumerate(ready):
                self._draw([job], logits[row : row + 1], ran)


def _sample(jobs: Sequence[Job], logits: Tensor) -> list[Sampled]:
    """The token that follows each row, whose state has read `position` tokens."""
    params = [job.request.sampling for job in jobs]
    return sample(logits, params, [job.position for job in jobs], [job.history for job in jobs])
