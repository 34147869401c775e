"""The duality: the loop, the masked product and the blocked algorithm are one sum."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from model.selective_scan import Selective, selective_scan_ref
from model.ssd import Dual, gated_norm_ref, ssd_blocked, ssd_quadratic, ssd_ref, steps

FORMS: dict[str, Any] = {
    "loop": ssd_ref,
    "quadratic": ssd_quadratic,
    "blocks of 1": lambda *a: ssd_blocked(*a, block=1),
    "blocks of 5": lambda *a: ssd_blocked(*a, block=5),
    "blocks of 64": ssd_blocked,
}


def inputs(T: int, H: int, P: int, G: int, N: int, *, seed: int = 0, spread: float = 2.0) -> list[Tensor]:
    """float64, in the functions' order. spread: of Δ's logarithm."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    dt = torch.exp(spread * rand(T, H) - 2)
    return [rand(T, H, P), dt, rand(T, G, N), rand(T, G, N), -torch.exp(rand(H)), rand(H), rand(H, N, P)]


@pytest.mark.parametrize("form", FORMS)
def test_the_worked_example(form: str) -> None:
    """A scalar state: h ← 0.5 h + x and y = 2 h for x = 1, 2, 3, 4."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    one = torch.ones(4, 1, 1, dtype=torch.float64)
    A = torch.tensor([0.5], dtype=torch.float64).log()
    none = torch.zeros(1, 1, 1, dtype=torch.float64)
    y, S = FORMS[form](x.view(4, 1, 1), one[..., 0], one, 2 * one, A, torch.zeros_like(A), none)
    torch.testing.assert_close(y.flatten(), torch.tensor([2.0, 5.0, 8.5, 12.25], dtype=torch.float64))
    torch.testing.assert_close(S.flatten(), torch.tensor([6.125], dtype=torch.float64))


def test_the_worked_example_by_the_selective_scan() -> None:
    """The same sum with a step of 1, softplus(ln(e − 1))."""
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    one = torch.ones_like(x)
    A = torch.tensor([[0.5]], dtype=torch.float64).log()
    bias = torch.tensor([torch.e - 1], dtype=torch.float64).log()
    h = torch.zeros(1, 1, dtype=torch.float64)
    held = []
    for t in range(4):
        token = slice(t, t + 1)
        fixed = Selective(A, torch.zeros(1, dtype=torch.float64), bias)
        y, h = selective_scan_ref(x[token], 0 * one[token], one[token], 2 * one[token], None, fixed, h)
        held.append((h.item(), y.item()))
    expected = [(1.0, 2.0), (2.5, 5.0), (4.25, 8.5), (6.125, 12.25)]
    for got, wanted in zip(held, expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(23, 4, 3, 2, 5), (1, 2, 4, 1, 3), (64, 3, 2, 3, 2), (65, 2, 2, 1, 4)])
def test_the_forms_agree_from_any_state(form: str, shape: tuple[int, int, int, int, int]) -> None:
    args = inputs(*shape)
    y, S = ssd_ref(*args)
    got, after = FORMS[form](*args)
    torch.testing.assert_close(got, y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, S, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_goes_on_where_it_was(form: str) -> None:
    x, dt, B, C, A, D, S = inputs(20, 4, 3, 2, 5)
    y, last = FORMS[form](x, dt, B, C, A, D, S)
    out = []
    for a, b in itertools.pairwise((0, 1, 1, 7, 20)):
        part, S = FORMS[form](x[a:b], dt[a:b], B[a:b], C[a:b], A, D, S)
        out.append(part)
    torch.testing.assert_close(torch.cat(out), y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(S, last, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", [ssd_quadratic, lambda *a: ssd_blocked(*a, block=5)], ids=["quadratic", "blocked"])
def test_rows_of_a_batch_are_each_their_own(form: Any) -> None:
    """Rows of 0, 6 and 11 tokens, padded with steps of 0, which change no state; A and D are one for all."""
    rows, lengths = [inputs(11, 4, 3, 2, 5, seed=seed) for seed in range(3)], (0, 6, 11)
    A, D = rows[0][4:6]
    x, dt, B, C, _, _, S = (torch.stack(parts) for parts in zip(*rows, strict=True))
    for row, n in enumerate(lengths):
        dt[row, n:] = 0.0
    y, after = form(x, dt, B, C, A, D, S)
    for row, n in enumerate(lengths):
        expected, last = ssd_ref(x[row, :n], dt[row, :n], B[row, :n], C[row, :n], A, D, S[row])
        torch.testing.assert_close(y[row, :n], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(after[row], last, rtol=1e-10, atol=1e-10)
    assert torch.equal(after[0], S[0])


@pytest.mark.parametrize("form", FORMS)
def test_forgetting_everything_is_no_division_by_zero(form: str) -> None:
    """Steps so long that every decay is 0, in float32: the differences of long sums would cancel to nonsense."""
    args = [u.float() for u in inputs(30, 2, 3, 1, 4)]
    args[1] = args[1] + torch.tensor([0.0, 200.0])
    exact, _ = ssd_ref(*(u.double() for u in args))
    got, S = FORMS[form](*args)
    assert bool(S.isfinite().all())
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-3)


def test_gradients_are_the_loops() -> None:
    args = [u.requires_grad_() for u in inputs(7, 2, 2, 1, 2)]
    torch.autograd.gradcheck(ssd_quadratic, args)
    torch.autograd.gradcheck(lambda *a: ssd_blocked(*a, block=3), args)


def test_steps_keep_their_limits() -> None:
    fixed = Dual(torch.zeros(2), torch.zeros(2), torch.tensor([0.0, 1.0]), (0.5, 2.0))
    got = steps(torch.tensor([[-9.0, -1.0], [9.0, 0.0]]), fixed)
    torch.testing.assert_close(got, torch.tensor([[0.5, 0.6931472], [2.0, 1.3132617]]))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("norm_first", [False, True])
def test_gated_norm_is_its_definition(groups: int, norm_first: bool) -> None:
    g = torch.Generator().manual_seed(2)
    y, z, weight = (torch.randn(*shape, generator=g) for shape in ((5, 12), (5, 12), (12,)))
    got = gated_norm_ref(y, z, weight, 1e-5, groups, norm_first)
    for n in range(5):
        for i in range(12):
            gate = z / (1 + torch.exp(-z))
            u = y if norm_first else y * gate
            width = 12 // groups
            part = u[n, i // width * width : (i // width + 1) * width]
            value = u[n, i] / torch.sqrt((part**2).mean() + 1e-5) * weight[i]
            torch.testing.assert_close(got[n, i], value * gate[n, i] if norm_first else value)


def test_blocks_have_tokens() -> None:
    with pytest.raises(ValueError, match="block is 0"):
        ssd_blocked(*inputs(2, 1, 1, 1, 1), block=0)
