"""The compiled memory layer against the reference, both against the rule's loop, and the promise about bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.gated_delta import conv, feature_map, gated_delta_ref, l2norm
from model.kernels.cpu import CpuOps
from model.kernels.ref import RefOps
from model.recall import Fixed, Leaves

B, T, W = 3, 9, 6
LENGTHS, PLACE = torch.tensor([9, 0, 4]), torch.tensor([0, 4, 10**9 + 5])
NONE, F32, BF16 = None, torch.float32, torch.bfloat16


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


class Case:
    """Random constants, inputs and leaves of three rows; of the first, what the ring holds was never read."""

    def __init__(
        self,
        h: int,
        d_k: int,
        d_v: int,
        width: int = 4,
        *,
        decays: bool = True,
        norm: bool = False,
        gated: bool = True,
        own_values: bool = False,
        ring: torch.dtype | None = None,
        degree: int = 1,
    ) -> None:
        g = torch.Generator().manual_seed(h + d_k + d_v + width)

        def rand(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g)

        K, V = h * d_k, h * d_v
        self.fixed = Fixed(
            heads=h,
            key_dim=d_k,
            value_dim=d_v,
            bias=torch.zeros(0),
            taps=rand(width, 2 * K + V),
            decays=(rand(h), torch.rand(h, generator=g)) if decays else None,
            norm=1 + 0.1 * rand(d_v) if norm else None,
            eps=1e-5,
            gated=gated,
            own_values=own_values,
            degree=degree,
        )
        self.fixed = replace(self.fixed, bias=0.3 * rand(sum(self.fixed.widths)))
        self.x, self.values = rand(B * T, sum(self.fixed.widths)), None if own_values else rand(B * T, V)
        waiting = None
        if ring is not None:
            waiting = rand(B, h, W, d_k + d_v + 3)
            waiting[..., -1] = 1
            waiting[0] = 0
            waiting = waiting.to(ring)
        self.leaves = Leaves(
            0.3 * rand(B, h, d_k, d_v),
            rand(B, width - 1, K),
            rand(B, width - 1, K),
            rand(B, width - 1, V),
            waiting,
            torch.tensor([7, 5, 3]),
            torch.tensor([0, 0, 0], dtype=torch.uint8),
        )

    def pool(self) -> tuple[Leaves, Leaves]:
        """The leaves as every second row of a pool, and its other rows, which are zeros."""
        both = [None if x is None else torch.stack((x, torch.zeros_like(x)), dim=1) for x in self.leaves]
        first, second = ([None if x is None else x[:, i] for x in both] for i in (0, 1))
        return Leaves(*first), Leaves(*second)  # type: ignore[arg-type]

    def run(self, ops: Any, leaves: Leaves, lengths: Tensor = LENGTHS) -> Tensor:
        """All rows and tokens at once."""
        read: Tensor = ops.recall(self.x, self.values, self.fixed, leaves=leaves, place=PLACE, lengths=lengths)
        return read

    def token(self, ops: Any, leaves: Leaves, row: int, t: int) -> Tensor:
        """One token of one row."""
        at = slice(row * T + t, row * T + t + 1)
        values = None if self.values is None else self.values[at].clone()
        one, place = torch.ones(1, dtype=torch.int64), PLACE[row : row + 1] + t
        read: Tensor = ops.recall(
            self.x[at].clone(), values, self.fixed, leaves=leaves.row(row), place=place, lengths=one
        )
        return read


def copy(leaves: Leaves) -> Leaves:
    return Leaves(*(None if x is None else x.clone() for x in leaves))  # type: ignore[arg-type]


def assert_close(got: Leaves, expected: Leaves) -> None:
    for x, y in zip(got, expected, strict=True):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            torch.testing.assert_close(x, y, rtol=0, atol=2e-5)


CASES: list[dict[str, Any]] = [
    {"h": 2, "d_k": 16, "d_v": 16},
    {"h": 1, "d_k": 64, "d_v": 40, "decays": False, "gated": False, "norm": True, "ring": BF16},
    {"h": 3, "d_k": 8, "d_v": 32, "width": 1, "own_values": True, "ring": F32},
    {"h": 2, "d_k": 256, "d_v": 128, "decays": False, "ring": BF16},
    {"h": 2, "d_k": 64, "d_v": 32, "width": 12, "degree": 2, "decays": False, "ring": BF16},
    {"h": 1, "d_k": 24, "d_v": 16, "degree": 3, "norm": True},
    {"h": 1, "d_k": 16, "d_v": 8, "degree": 4, "own_values": True, "gated": False},
    {"h": 2, "d_k": 24, "d_v": 8, "width": 2, "norm": True, "own_values": True, "decays": False},
    {"h": 2, "d_k": 5, "d_v": 24, "norm": True, "ring": F32, "degree": 2},
    {"h": 3, "d_k": 8, "d_v": 5, "width": 2, "own_values": True, "gated": False, "ring": BF16},
]


@pytest.mark.parametrize("case", CASES)
def test_is_the_references(ops: CpuOps, case: dict[str, Any]) -> None:
    """Rows of a pool, apart; one without tokens, one that ends early; the ring goes round; nothing else is written."""
    given = Case(**case)
    leaves, others = given.pool()
    expected = copy(given.leaves)
    got = given.run(ops, leaves)
    torch.testing.assert_close(got, given.run(RefOps(), expected), rtol=0, atol=2e-5)
    assert_close(leaves, expected)
    assert not any(x.any() for x in others if x is not None)
    assert not got[T : 2 * T].any()
    assert not got[2 * T + 4 :].any()
    for before, after in zip(given.leaves, leaves, strict=True):
        assert before is None or after is None or torch.equal(before[1], after[1])


@pytest.mark.parametrize("case", CASES)
def test_bits_depend_on_neither_batch_nor_chunk(ops: CpuOps, case: dict[str, Any]) -> None:
    given = Case(**case)
    together, alone = copy(given.leaves), copy(given.leaves)
    got = given.run(ops, together)
    for row, n in enumerate(LENGTHS.tolist()):
        for t in range(n):
            assert torch.equal(given.token(ops, alone, row, t)[0], got[row * T + t])
    for x, y in zip(together, alone, strict=True):
        assert x is None or y is None or torch.equal(x, y)


@pytest.mark.parametrize("kind", ["cpu", "ref"])
@pytest.mark.parametrize("case", CASES)
def test_is_the_rules_loop(ops: CpuOps, case: dict[str, Any], kind: str) -> None:
    """float32 against float64, where what is read is written."""
    given = Case(**{**case, "ring": NONE, "norm": False, "gated": False})
    h, d_k, d_v = given.fixed.heads, given.fixed.key_dim, given.fixed.value_dim
    leaves = copy(given.leaves)
    got = given.run(ops if kind == "cpu" else RefOps(), leaves).view(B, T, h, d_v)
    q, k, v, b, a, _ = (given.x + given.fixed.bias).double().view(B, T, -1).split(given.fixed.widths, dim=-1)
    v = v if given.values is None else given.values.double().view(B, T, -1)
    tail = torch.cat(given.leaves[1:4], dim=-1).double()
    q, k, v = conv(torch.cat((q, k, v), -1), given.fixed.taps.T.double(), tail).split((h * d_k, h * d_k, h * d_v), -1)
    q, k = (l2norm(feature_map(u.reshape(B, T, h, d_k), given.fixed.degree)) for u in (q, k))
    v = v.view(B, T, h, d_v)
    for row, n in enumerate(LENGTHS.tolist()):
        alpha = None
        if given.fixed.decays is not None:
            bias, rate = (x.double() for x in given.fixed.decays)
            alpha = torch.exp(-torch.nn.functional.softplus(a + bias) * rate)[row : row + 1, :n]
        own = (x[row : row + 1, :n] for x in (q, k, v, torch.sigmoid(b)))
        out, after = gated_delta_ref(*own, alpha, given.leaves.M.double()[row : row + 1])
        torch.testing.assert_close(got[row : row + 1, :n].double(), out, rtol=0, atol=5e-5)
        torch.testing.assert_close(leaves.M[row : row + 1].double(), after, rtol=0, atol=5e-5)
    assert torch.equal(leaves.writes, given.leaves.writes + LENGTHS)


@pytest.mark.parametrize("case", CASES)
def test_frozen_rows_read_and_go_on_without_writing(ops: CpuOps, case: dict[str, Any]) -> None:
    given = Case(**case)
    given.leaves.frozen.copy_(torch.tensor([1, 1, 0]))
    leaves, expected = copy(given.leaves), copy(given.leaves)
    got = given.run(ops, leaves)
    torch.testing.assert_close(got, given.run(RefOps(), expected), rtol=0, atol=2e-5)
    assert_close(leaves, expected)
    assert torch.equal(leaves.M[:2], given.leaves.M[:2])
    assert torch.equal(leaves.writes[:2], given.leaves.writes[:2])
    assert not torch.equal(leaves.M[2], given.leaves.M[2])
    if case.get("width", 4) > 1:
        assert not torch.equal(leaves.conv_k[0], given.leaves.conv_k[0])


def test_what_was_never_read_is_not_written(ops: CpuOps) -> None:
    """The first row's ring is empty for a window; then its own tokens come, and are counted."""
    given = Case(2, 16, 16, ring=BF16)
    leaves = copy(given.leaves)
    given.run(ops, leaves, torch.tensor([W, 0, 0]))
    assert torch.equal(leaves.M, given.leaves.M)
    assert torch.equal(leaves.writes, given.leaves.writes)
    given.run(ops, leaves, torch.tensor([2, 0, 0]))
    assert torch.equal(leaves.writes - given.leaves.writes, torch.tensor([2, 0, 0]))
    assert not torch.equal(leaves.M[0], given.leaves.M[0])


def test_strengths_at_their_ends(ops: CpuOps) -> None:
    """A logit far out gives β of 0 or 1 and α of 0 or 1, and no NaN."""
    given = Case(2, 16, 16)
    at = 2 * 2 * 16
    for value in (200.0, -200.0):
        given.x[:, at : at + 4] = value
        leaves, expected = copy(given.leaves), copy(given.leaves)
        got = given.run(ops, leaves)
        torch.testing.assert_close(got, given.run(RefOps(), expected), rtol=0, atol=2e-5)
        assert_close(leaves, expected)


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    given = Case(2, 16, 16, ring=BF16)
    leaves = given.leaves
    assert leaves.waiting is not None
    for change in (
        {"M": leaves.M.double()},
        {"M": leaves.M.mT[:, :, :8]},
        {"conv_k": leaves.conv_k[:, :2]},
        {"waiting": leaves.waiting.half()},
        {"waiting": leaves.waiting[..., :-1]},
        {"waiting": leaves.waiting.mT.contiguous().mT},
        {"writes": leaves.writes.int()},
        {"frozen": leaves.frozen[:2]},
    ):
        with pytest.raises(ValueError, match="expected"):
            given.run(ops, leaves._replace(**change))
    with pytest.raises(ValueError, match="expected contiguous float32"):
        ops.recall(given.x.double(), given.values, given.fixed, leaves=leaves, place=PLACE, lengths=LENGTHS)
    with pytest.raises(ValueError, match="not among the products"):
        ops.recall(given.x, None, given.fixed, leaves=leaves, place=PLACE, lengths=LENGTHS)
