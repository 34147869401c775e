"""From logits to tokens: one call for a batch, with each row's own parameters.

In this order, per row:
    1. logit bias is added to the raw logits; tokens met before are penalised (repetition, then frequency and
       presence); banned tokens become −inf
    2. temperature 0: the greatest logit, the lowest id of several; nothing below applies
    3. division by the temperature
    4. top-k: the k greatest, of equal ones the lower ids
    5. top-p: of what is left, renormalised, the shortest beginning whose mass reaches p; at least one token
    6. min-p: what is at least min_p times as probable as the best
    7. a draw by Gumbel-max with counter-based noise (`model/noise.py`)
Steps 1 to 5 are vLLM's and Hugging Face's order (bias and penalties before temperature before top-k before top-p).
For min-p, which vLLM applies before top-k and top-p, we follow Hugging Face and llama.cpp: after them. llama.cpp
divides by the temperature last, after its filters; we do not follow that.

The log probabilities reported are of the model's own distribution: log-softmax of the raw logits, before step 1.

Invariants: a token is a function of its row's logits, parameters, history and (seed, position), whatever the batch,
the row's place in it and the device. Nothing here has a state: a call that raised can be repeated without the bad
rows. `draw.py` is the reference, `draw_cpu.py` the same on a CPU.

It knows nothing of text, stop conditions or sessions.
"""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import draw, draw_cpu
from model.noise import MASS_ONE

MOST_LOGPROBS = 20
_GREATEST = sys.float_info.max
_DRAWN_SEED_BITS = 53  # every JSON reader keeps 53 bits, so a seed that was reported can be sent back


class LogitsError(ValueError):
    """Logits that no token can be drawn from: NaN, +inf, or nothing above −inf.

    rows: the row numbers it holds for. The other rows can be sampled again without them.
    """

    def __init__(self, rows: Mapping[int, str]) -> None:
        super().__init__("; ".join(f"row {b}: {what}" for b, what in rows.items()))
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a row's next token is chosen. Raises `ValueError` naming the field that is out of its range.

    temperature: finite, ≥ 0; 0 is greedy.  top_k: ≥ 0; 0 is off.  top_p: 0 … 1; 1 is off, 0 leaves the best only.
    min_p: 0 … 1; 0 is off.  repetition_penalty: 0.01 … 100; 1 is off; divides positive logits, multiplies others.
    presence_penalty, frequency_penalty: −2 … 2, subtracted once and once per occurrence.
    logit_bias: token id → finite number added to its logit.  banned: ids that are never drawn.
    seed: −2⁶³ … 2⁶⁴−1; seeds that are equal modulo 2⁶⁴ are the same.
    logprobs: None, or how many of the likeliest tokens to report (0 … 20) beside the drawn one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    seed: int = 0
    logprobs: int | None = None
    banned: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        object.__setattr__(self, "banned", frozenset(self.banned))
        _within("temperature", self.temperature, 0, _GREATEST)
        _within("top_k", self.top_k, 0, 2**63 - 1)
        _within("top_p", self.top_p, 0, 1)
        _within("min_p", self.min_p, 0, 1)
        _within("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        for token, bias in self.logit_bias.items():
            _within("logit_bias: token id", token, 0, 2**31 - 1)
            _within(f"logit_bias of token {token}", bias, -_GREATEST, _GREATEST)
        for token in self.banned:
            _within("banned: token id", token, 0, 2**31 - 1)
        _within("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            _within("logprobs", self.logprobs, 0, MOST_LOGPROBS)

    def filters(self, V: int) -> bool:
        """True where top-k, top-p or min-p may leave a token of a vocabulary of V out."""
        return 0 < self.top_k < V or self.top_p < 1 or self.min_p > 0

    @property
    def penalises(self) -> bool:
        """True where the history matters."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is in no interval
        raise ValueError(f"{name} must be a finite number from {low} to {high}, not {value}")


class History:
    """What the penalties need to know of one row; the only thing here that changes.

    prompt: this turn's input ids. They count for the repetition penalty only. After a takeover it is rebuilt by
    pushing the tokens of the log again.
    """

    __slots__ = ("_counts", "_ids", "_place", "_size")

    def __init__(self, prompt: Iterable[int] = ()) -> None:
        ids = np.unique(np.fromiter(prompt, dtype=np.int64))
        self._size = ids.size
        self._ids = np.concatenate([ids, np.zeros(64, np.int64)])
        self._counts = np.zeros(self._ids.size, np.int64)
        self._place = {token: place for place, token in enumerate(ids.tolist())}

    def push(self, token: int) -> None:
        """A generated token: it counts for all three penalties."""
        place = self._place.setdefault(token, self._size)
        if place == self._size:
            if place == self._ids.size:
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token
            self._size += 1
        self._counts[place] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """Every id met, once each, (n,) int64."""
        return self._ids[: self._size]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each of `ids` was generated, (n,) int64; 0 for one that was only read."""
        return self._counts[: self._size]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One row's draw.

    logprob: of the token, where `logprobs` was asked for.  top: (id, logprob) of the likeliest tokens, best first,
    ties by lower id; tokens of probability 0 are left out.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def sample(
    logits: Tensor, params: Sequence[SamplingParams], positions: Sequence[int], histories: Sequence[History]
) -> list[Sampled]:
    """Draw each row's next token.

    logits (B, V) float32, left as they are; positions: how many tokens each row has read (the `position` of its
    state), 0 … 2⁶⁴−1: with the seed it names the noise. Histories are read, not pushed to.
    Raises `LogitsError` naming the rows whose logits are NaN, +inf or all −inf, and `ValueError` where the lengths
    differ or a bias, ban or history names a token outside the vocabulary.
    """
    B = len(logits)
    if not len(params) == len(positions) == len(histories) == B:
        raise ValueError(
            f"{B} rows of logits with {len(params)} parameters, {len(positions)} positions, {len(histories)} histories"
        )
    if logits.dtype != torch.float32:
        raise ValueError(f"logits must be float32, not {logits.dtype}")
    if B == 0:
        return []
    if min(positions) < 0:
        raise ValueError(f"a position must be at least 0, not {min(positions)}")
    logits = logits.detach().contiguous()
    best = _best(logits)
    edited = _edited(logits, params, histories)
    if edited is not logits:
        best = _best(edited)

    tokens = list(best)
    warm = [b for b in range(B) if params[b].temperature > 0]
    if logits.device.type == "cpu":
        rows = edited.numpy()
        for b in warm:
            tokens[b] = draw_cpu.draw_row(rows[b], params[b], positions[b])
    elif warm:
        hot = edited if len(warm) == B else edited[torch.tensor(warm, device=logits.device)]
        drawn = draw.draw(hot, [params[b] for b in warm], [positions[b] for b in warm])
        for b, token in zip(warm, drawn, strict=True):
            tokens[b] = token
    return [_reported(logits[b], tokens[b], params[b].logprobs) for b in range(B)]


def _best(logits: Tensor) -> list[int]:
    """Each row's greatest logit, the lowest id of several. Raises `LogitsError`."""
    if logits.device.type == "cpu":  # numpy's argmax is many times faster, and also stops at a NaN
        rows = logits.numpy()
        ids = rows.argmax(1)
        best, peaks = ids.tolist(), rows[np.arange(len(rows)), ids].tolist()
    else:
        values, indices = logits.max(1)
        best, peaks = indices.tolist(), values.tolist()
    if not all(map(math.isfinite, peaks)):
        what = {math.inf: "a logit is +inf", -math.inf: "every logit is −inf, no token can be drawn"}
        bad = {b: what.get(peak, "a logit is NaN") for b, peak in enumerate(peaks) if not math.isfinite(peak)}
        raise LogitsError(bad)
    return [int(b) for b in best]


def _edited(logits: Tensor, params: Sequence[SamplingParams], histories: Sequence[History]) -> Tensor:
    """Step 1: a copy (B, V) with bias, penalties and bans; `logits` itself where no row has any."""
    B, V = logits.shape
    biased = [b for b in range(B) if params[b].logit_bias]
    penalised = [b for b in range(B) if params[b].penalises and histories[b].ids.size]
    banned = [b for b in range(B) if params[b].banned]
    if not (biased or penalised or banned):
        return logits
    # numpy copies on one thread; torch would wake all of its own for a megabyte, and wait for them on a busy machine.
    edited = torch.from_numpy(logits.numpy().copy()) if logits.device.type == "cpu" else logits.clone()
    flat = edited.view(-1)
    greatest = torch.finfo(torch.float32).max  # an absurd bias makes a token certain, not its row invalid

    def place(b: int, ids: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        if ids.min() < 0 or ids.max() >= V:
            outside = ids[(ids < 0) | (ids >= V)][0]
            raise ValueError(f"row {b}: {name} names token {outside}, the vocabulary has {V}")
        return ids + b * V

    def on_device(parts: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(logits.device)

    if biased:
        at = on_device([place(b, np.array([*params[b].logit_bias]), "logit_bias") for b in biased])
        bias = on_device([np.array([*params[b].logit_bias.values()]) for b in biased])
        flat[at] = (flat[at].double() + bias).float().clamp(max=greatest)
    if penalised:
        at = on_device([place(b, histories[b].ids, "the history") for b in penalised])
        divisor = on_device(
            [np.full(histories[b].ids.size, params[b].repetition_penalty, np.float32) for b in penalised]
        )
        amount = on_device([_amount(params[b], histories[b].counts) for b in penalised])
        x = flat[at]
        flat[at] = (torch.where(x > 0, x / divisor, x * divisor) - amount).clamp(max=greatest)
    if banned:
        flat[on_device([place(b, np.array([*params[b].banned]), "banned") for b in banned])] = -math.inf
    return edited


def _amount(params: SamplingParams, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    return (params.frequency_penalty * counts + params.presence_penalty * (counts > 0)).astype(np.float32)


def _reported(row: Tensor, token: int, logprobs: int | None) -> Sampled:
    """The draw with its log probabilities, from the row's raw logits (V,) float32."""
    if logprobs is None:
        return Sampled(token)
    values = row.cpu().numpy()
    count, peak = min(logprobs, values.size), float(values.max())
    log_z = peak + math.log(draw_cpu.total_mass(values, peak, 1.0) / MASS_ONE)
    if count == 0:
        return Sampled(token, float(values[token]) - log_z)
    least = np.partition(values, -count)[-count]
    ids = np.flatnonzero(values >= least)  # rising, and more than `count` where the last is tied
    ids = ids[np.argsort(-values[ids], kind="stable")[:count]]
    top = tuple((int(i), float(values[i]) - log_z) for i in ids if values[i] > -math.inf)
    return Sampled(token, float(values[token]) - log_z, top)


def draw_seed() -> int:
    """A seed for a request that gave none: 53 random bits, so that it survives every JSON reader."""
    return secrets.randbits(_DRAWN_SEED_BITS)


def fold_seed(seed: int, choice: int) -> int:
    """The seed of choice `choice` of n, from the request's seed. Choice 0 is the seed itself.

    The others are SplitMix64's outputs after it (Steele, Lea and Flood, 2014), as signed 64-bit numbers: for one seed
    all choices differ, and for one choice all seeds do.
    """
    if choice < 0:
        raise ValueError(f"choice must be at least 0, not {choice}")
    if choice == 0:
        return seed
    x = (seed + choice * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return draw.as_int64(x ^ x >> 31)
