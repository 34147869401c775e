"""Products of the cpu backend against the reference, for every kind of weight and any number of rows."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernels import choose_ops
from model.kernels.cpu import CpuOps
from model.kernels.ref import dequantise
from model.weights import Q4_1, Q8_0, Weight


def random_weight(kind: str, out: int, inputs: int, seed: int = 0) -> Weight:
    g = torch.Generator().manual_seed(seed)
    if kind == "q4":
        d = (torch.rand(out, inputs // 32, generator=g) * 0.01).half()
        q = torch.randint(0, 16, (out, inputs), dtype=torch.uint8, generator=g)
        return Q4_1(q, d, (-8 * d.float() * torch.rand(d.shape, generator=g)).half())
    if kind == "q8":
        q8 = torch.randint(-128, 128, (out, inputs), dtype=torch.int8, generator=g)
        return Q8_0(q8, (torch.randn(out, inputs // 32, generator=g) * 0.01).half())
    return torch.randn(out, inputs, generator=g).to(torch.bfloat16 if kind == "bf16" else torch.float32)


def rounding_bound(weights: list[Weight], x: Tensor) -> Tensor:
    """What int8 activations may cost: |x − s·a| ≤ s/2 with s = max|x|/127 per group of 32, times |w|, summed."""
    half_step = x.view(len(x), -1, 32).abs().amax(-1, keepdim=True).expand(-1, -1, 32).reshape(x.shape) / 254
    return half_step @ torch.cat([dequantise(w) for w in weights]).abs().to(x.dtype).T


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


@pytest.mark.parametrize("kind", ["q4", "q8", "f32", "bf16"])
@pytest.mark.parametrize("shapes", [[(64, 96)], [(50, 64), (20, 64), (1, 64)], [(257, 32)]])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 33])
def test_product_is_the_references(ops: CpuOps, kind: str, shapes: list[tuple[int, int]], rows: int) -> None:
    weights = [random_weight(kind, *shape, seed=i) for i, shape in enumerate(shapes)]
    x = torch.randn(rows, shapes[0][1])
    expected, got = choose_ops("ref").linear(weights)(x), ops.linear(weights)(x)
    bound = 1e-4 * expected.abs().max()  # order of float summation
    if kind in ("q4", "q8"):
        bound = bound + rounding_bound(weights, x)
    assert got.shape == expected.shape == (rows, sum(out for out, _ in shapes))
    assert ((got - expected).abs() <= bound).all()


@pytest.mark.parametrize("kind", ["q4", "q8"])
def test_weights_keep_all_their_bits(ops: CpuOps, kind: str) -> None:
    """With activations that int8 holds exactly, nothing but float rounding is left."""
    weight = random_weight(kind, 40, 64)
    x = torch.randint(-127, 128, (5, 64)).float()
    x[:, ::32] = 127.0  # the scale of each group is 1
    expected = x.double() @ dequantise(weight).double().T
    torch.testing.assert_close(ops.linear([weight])(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["q4", "q8", "f32", "bf16"])
def test_a_row_is_bit_identical_in_any_company(ops: CpuOps, kind: str) -> None:
    weight = random_weight(kind, 72, 160)
    several, alone = ops.linear([weight]), CpuOps(threads=1).linear([weight])
    x = torch.randn(41, 160) * torch.logspace(-3, 3, 41)[:, None]
    together = several(x)
    for start, rows in ((0, 1), (3, 1), (3, 2), (3, 3), (5, 8), (0, 40), (40, 1)):
        part = x[start : start + rows].contiguous()
        assert torch.equal(several(part), together[start : start + rows])
        assert torch.equal(alone(part), together[start : start + rows])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=32, max_size=32))
def test_any_finite_activations(ops: CpuOps, values: list[float]) -> None:
    weight = random_weight("q4", 8, 32)
    x = torch.tensor([values])
    expected = x.double() @ dequantise(weight).double().T
    bound = rounding_bound([weight], x.double()) * 1.001 + 1e-4 * x.abs().max() + 1e-28
    assert ((ops.linear([weight])(x) - expected).abs() <= bound).all()


def test_zeros_give_zeros(ops: CpuOps) -> None:
    assert not ops.linear([random_weight("q4", 16, 64)])(torch.zeros(3, 64)).any()


@pytest.mark.parametrize("kind", ["q4", "q8", "f32"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(ops: CpuOps, kind: str, bad: float) -> None:
    x = torch.randn(2, 64)
    x[1, 40] = bad
    y = ops.linear([random_weight(kind, 16, 64)])(x)
    assert y[0].isfinite().all()
    assert not y[1].isfinite().any()


def test_scales_that_float16_cannot_hold_are_kept(ops: CpuOps) -> None:
    weight = random_weight("q8", 16, 32)
    assert isinstance(weight, Q8_0)
    fine = Q8_0(weight.q, torch.full((16, 1), 1.0 + 2.0**-20))
    x = torch.zeros(1, 32)
    x[0, 0] = 127.0
    torch.testing.assert_close(ops.linear([fine])(x), x @ fine.dequantise().T, rtol=1e-7, atol=0)


def test_kinds_may_be_mixed(ops: CpuOps) -> None:
    weights = [random_weight("q4", 16, 64), random_weight("q8", 16, 64), random_weight("bf16", 16, 64)]
    x = torch.randn(3, 64)
    torch.testing.assert_close(ops.linear(weights)(x), choose_ops("ref").linear(weights)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ref", "cpu"])
def test_inputs_must_agree(kind: str) -> None:
    with pytest.raises(ValueError, match="share their inputs"):
        choose_ops("cpu" if kind == "cpu" else "ref").linear([torch.zeros(4, 32), torch.zeros(4, 64)])


@pytest.mark.parametrize("x", [torch.zeros(2, 63), torch.zeros(64), torch.zeros(2, 64).double(), torch.zeros(64, 2).T])
def test_other_activations_are_refused(ops: CpuOps, x: Tensor) -> None:
    with pytest.raises(ValueError, match="expected contiguous float32"):
        ops.linear([random_weight("q4", 16, 64)])(x)


@pytest.mark.parametrize("kind", ["q8", "q4", "f32"])
def test_embedding_is_the_references(ops: CpuOps, kind: str) -> None:
    weight = random_weight(kind, 50, 64)
    ids = torch.tensor([0, 49, 7, 7])
    got = ops.embedding(weight)(ids)
    assert torch.equal(got, choose_ops("ref").embedding(weight)(ids))
    got += 1  # a tensor of its own
    assert torch.equal(ops.embedding(weight)(ids), got - 1) or kind == "f32"


def test_an_id_outside_the_vocabulary_is_refused(ops: CpuOps) -> None:
    for kind in ("q8", "f32"):
        with pytest.raises(IndexError):
            ops.embedding(random_weight(kind, 50, 64))(torch.tensor([50]))
