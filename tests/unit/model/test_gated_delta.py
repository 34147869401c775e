"""The gated delta rule: three forms of one sum, its gradients, and what stands around it in a layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.gated_delta import chunkwise, conv, decay, feature_map, gated_delta_ref, l2norm, step, tail_after

B, H, K, V = 2, 3, 5, 4
Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # q, k, v, beta, alpha, M
# Of the float32 forms against the float64 reference: values and M are of order 1, sums of some dozens of terms.
SINGLE = 2e-5


def inputs(T: int, seed: int, lowest: float = 0.5, dtype: torch.dtype = torch.float64) -> Six:
    """q, k, v, beta in (0, 1), alpha in (lowest, 1), M: keys and queries of length 1, M not empty."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def uniform(low: float) -> Tensor:
        return low + (1 - low) * torch.rand(B, T, H, generator=g, dtype=torch.float64)

    q, k = l2norm(rand(B, T, H, K)), l2norm(rand(B, T, H, K))
    return as_type((q, k, rand(B, T, H, V), uniform(0.0), uniform(lowest), rand(B, H, K, V)), dtype)


def as_type(six: Six, dtype: torch.dtype) -> Six:
    q, k, v, beta, alpha, M = (x.to(dtype) for x in six)
    return q, k, v, beta, alpha, M


def cut(six: Six, start: int, stop: int | None = None) -> Six:
    """Tokens start to stop, the same M."""
    q, k, v, beta, alpha = (x[:, start:stop] for x in six[:5])
    return q, k, v, beta, alpha, six[5]


def steps(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, alpha: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
    """`step`, token after token."""
    out = [v[:, :0]]
    for t in range(q.shape[1]):
        token = slice(t, t + 1)
        read, M = step(q[:, token], k[:, token], v[:, token], beta[:, token], alpha[:, token], M)
        out.append(read)
    return torch.cat(out, dim=1), M


@settings(max_examples=40)
@given(
    T=st.integers(0, 20),
    chunk=st.integers(1, 24),
    lowest=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 99),
    single=st.booleans(),
)
def test_the_three_forms_are_one(T: int, chunk: int, lowest: float, seed: int, single: bool) -> None:
    given_ = inputs(T, seed, lowest)
    expected = gated_delta_ref(*given_)
    dtype, tolerance = (torch.float32, SINGLE) if single else (torch.float64, 1e-10)
    same = as_type(given_, dtype)
    for got in (steps(*same), chunkwise(*same, chunk=chunk)):
        for a, b in zip(got, expected, strict=True):
            assert a.dtype is dtype
            torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance)


def test_a_chunk_as_long_as_the_models_in_single_precision() -> None:
    """200 tokens in chunks of 64, heads of 64: the layer's own size."""
    g = torch.Generator().manual_seed(0)
    T, d = 200, 64
    q, k = (l2norm(torch.randn(1, T, 2, d, generator=g)) for _ in range(2))
    v, M = torch.randn(1, T, 2, d, generator=g), torch.randn(1, 2, d, d, generator=g)
    beta, alpha = (torch.rand(1, T, 2, generator=g) for _ in range(2))
    alpha = 1 - 0.02 * alpha
    expected = steps(*as_type((q, k, v, beta, alpha, M), torch.float64))
    for a, b in zip(chunkwise(q, k, v, beta, alpha, M), expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=SINGLE)


def test_the_equation_by_hand() -> None:
    """One head of one dimension: M = 2, α = ½, k = 1, v = 5, β = ¼, q = 3 → M = 1 + ¼·(5 − 1) = 2, o = 6."""
    one = torch.ones(1, 1, 1, 1)
    given_: Six = (3 * one, one, 5 * one, 0.25 * one[..., 0], 0.5 * one[..., 0], 2 * one)
    for form in (gated_delta_ref, step, chunkwise):
        out, M = form(*given_)
        assert (float(out), float(M)) == (6.0, 2.0)


def test_what_is_written_with_strength_1_is_read_back_and_replaced() -> None:
    """β = 1: reading at the key gives the value exactly; writing the same key again replaces it, others stay."""
    k = torch.eye(4, dtype=torch.float64)[[0, 1, 0]].view(1, 3, 1, 4)
    v = torch.arange(12, dtype=torch.float64).view(1, 3, 1, 4)
    ones, M = torch.ones(1, 3, 1, dtype=torch.float64), torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    out, M = chunkwise(k, k, v, ones, None, M)
    assert torch.equal(out, v)
    assert torch.equal(M[0, 0, 0], v[0, 2, 0])
    assert torch.equal(M[0, 0, 1], v[0, 1, 0])


def test_no_decay_is_a_decay_of_one() -> None:
    q, k, v, beta, alpha, M = inputs(11, 4)
    for form in (gated_delta_ref, chunkwise):
        for a, b in zip(form(q, k, v, beta, None, M), form(q, k, v, beta, torch.ones_like(alpha), M), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    q, k, v, beta, alpha, M = cut((q, k, v, beta, torch.ones_like(alpha), M), 0, 1)
    assert torch.equal(step(q, k, v, beta, None, M)[1], step(q, k, v, beta, alpha, M)[1])


def test_a_decay_of_zero_forgets_everything_before() -> None:
    q, k, v, beta, alpha, M = inputs(9, 5)
    alpha[:, 4] = 0
    out, after = chunkwise(q, k, v, beta, alpha, M, chunk=9)
    fresh, fresh_after = chunkwise(*cut((q, k, v, beta, alpha, torch.zeros_like(M)), 4), chunk=9)
    torch.testing.assert_close(out[:, 4:], fresh, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, fresh_after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at", [0, 1, 6, 7, 16])
def test_any_split_is_the_whole(at: int) -> None:
    given_ = inputs(17, 6)
    expected, after = chunkwise(*given_, chunk=7)
    first, M = chunkwise(*cut(given_, 0, at), chunk=7)
    second, M = chunkwise(*cut((*given_[:5], M), at), chunk=7)
    torch.testing.assert_close(torch.cat((first, second), dim=1), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(M, after, rtol=0, atol=1e-10)


def test_padding_changes_nothing() -> None:
    """β = 0, α = 1: M stays to the bit, whatever the keys and values of the padding."""
    q, k, v, _, _, M = inputs(6, 7)
    none, one = torch.zeros(B, 6, H, dtype=torch.float64), torch.ones(B, 6, H, dtype=torch.float64)
    for form in (gated_delta_ref, chunkwise, steps):
        out, after = form(q, k, 1e6 * v, none, one, M)
        assert torch.equal(after, M)
        torch.testing.assert_close(out, torch.einsum("bthk,bhkv->bthv", q, M), rtol=0, atol=1e-12)


def test_inputs_are_left_alone_and_rows_and_heads_never_meet() -> None:
    given_ = inputs(8, 8)
    held = [x.clone() for x in given_]
    out, M = chunkwise(*given_, chunk=3)
    step(*cut(given_, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(given_, held, strict=True))
    for x in given_[:3]:
        x[1, :, 0] *= 100  # row 1, head 0
    other, other_M = chunkwise(*given_, chunk=3)
    assert torch.equal(other[0], out[0])
    assert torch.equal(other_M[0], M[0])
    torch.testing.assert_close(other[1, :, 1:], out[1, :, 1:], rtol=0, atol=1e-12)
    assert not torch.allclose(other[1, :, 0], out[1, :, 0])


@pytest.mark.parametrize("decays", [True, False])
def test_gradients_are_right_and_the_same_in_both_forms(decays: bool) -> None:
    """Numerically (gradcheck), through every input, the initial memory and the final one; and form against form."""
    *tokens, M = inputs(5, 9, 0.3)
    q, k, v, beta, alpha = (x[:1, :, :1, ..., :3].clone() if x.ndim == 4 else x[:1, :, :1].clone() for x in tokens)
    M = M[:1, :1, :3, :3].clone()
    leaves = [x.requires_grad_() for x in (q, k, v, beta, *([alpha] if decays else []), M)]

    def run(form: str, *x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, beta, *rest = x
        alpha = rest[0] if decays else None
        if form == "ref":
            return gated_delta_ref(q, k, v, beta, alpha, rest[-1])
        return chunkwise(q, k, v, beta, alpha, rest[-1], chunk=2)

    grads = []
    for form in ("ref", "chunkwise"):
        assert torch.autograd.gradcheck(lambda *x, f=form: run(f, *x), leaves)
        out, after = run(form, *leaves)
        weigh = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
        grads.append(torch.autograd.grad((out * weigh).sum() + after.square().sum(), leaves))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_sixteen_bits_are_computed_in_single_precision() -> None:
    q, k, v, beta, alpha, M = inputs(40, 10, dtype=torch.bfloat16)
    out, after = chunkwise(q, k, v, beta, alpha, M.float())
    expected, expected_after = gated_delta_ref(*as_type((q, k, v, beta, alpha, M), torch.float64))
    assert (out.dtype, after.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(after.double(), expected_after, rtol=0, atol=SINGLE)
    torch.testing.assert_close(out.double(), expected, rtol=2**-8, atol=SINGLE)


def test_what_cannot_be_is_refused() -> None:
    given_ = inputs(3, 0)
    with pytest.raises(ValueError, match="one token, not 3"):
        step(*given_)
    with pytest.raises(ValueError, match="chunk is 0"):
        chunkwise(*given_, chunk=0)


def test_conv_is_its_sum_and_goes_on_from_its_tail() -> None:
    g = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((2, 9, 3), (3, 4)))
    tail = torch.zeros(2, 3, 3, dtype=torch.float64)
    whole = conv(x, weight, tail)
    for t in range(9):
        expected = sum((weight[:, 3 - d] * x[:, t - d] for d in range(min(t, 3) + 1)), torch.zeros(()))
        torch.testing.assert_close(whole[:, t], expected)
    lengths = torch.tensor([5, 2])
    after = tail_after(x, tail, lengths)
    for b, n in enumerate(lengths.tolist()):
        assert torch.equal(conv(x[b : b + 1, n:], weight, after[b : b + 1]), whole[b : b + 1, n:])
    assert torch.equal(tail_after(x, after, torch.zeros(2, dtype=torch.int64)), after)


def test_the_feature_map_is_of_channels_eight_apart_going_round() -> None:
    x = torch.arange(1.0, 25.0)
    assert feature_map(x, 1) is x
    assert feature_map(x, 3)[[0, 7, 8, 23]].tolist() == [1 * 9 * 17, 8 * 16 * 24, 9 * 17 * 1, 24 * 8 * 16]
    a, b = torch.randn(2, 4096, generator=torch.Generator().manual_seed(1)).double()
    alike = [float(l2norm(feature_map(a, n)) @ l2norm(feature_map(0.8 * a + 0.6 * b, n))) for n in (1, 2, 3)]
    assert alike == pytest.approx([0.8, 0.8**2, 0.8**3], abs=0.05)


def test_l2norm_of_nothing_is_nothing_and_decay_lies_between_0_and_1() -> None:
    assert torch.equal(l2norm(torch.zeros(3)), torch.zeros(3))
    torch.testing.assert_close(l2norm(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]))
    alpha = decay(torch.tensor([-30.0, 0.0, 30.0]), torch.zeros(3), torch.zeros(3))
    torch.testing.assert_close(alpha, torch.tensor([1.0, 0.5, torch.tensor(-30.0).exp().item()]))
