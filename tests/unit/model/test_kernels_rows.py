"""RMSNorm, SwiGLU and RoPE's angles of the cpu backend, and the chooser."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.kernels import WindowSpec, choose_ops, rope_frequencies
from model.kernels.cpu import CpuOps


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


@pytest.mark.parametrize("width", [8, 64, 576, 20])
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("with_delta", [True, False])
def test_add_norm_is_the_references(ops: CpuOps, width: int, rows: int, with_delta: bool) -> None:
    h, weight = torch.randn(rows, width) * 30, torch.randn(width)
    delta = torch.randn(rows, width) if with_delta else None
    expected_h, got_h = h.clone(), h.clone()
    expected = choose_ops("ref").add_norm(expected_h, delta, weight, 1e-5)
    got = ops.add_norm(got_h, delta, weight, 1e-5)
    assert torch.equal(got_h, expected_h)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_add_norm_of_zeros_is_zeros(ops: CpuOps) -> None:
    assert not ops.add_norm(torch.zeros(2, 64), None, torch.ones(64), 1e-5).any()


@pytest.mark.parametrize("width", [8, 1536, 12])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_swiglu_is_the_references(ops: CpuOps, width: int, rows: int) -> None:
    gate_up = torch.randn(rows, 2 * width) * 10
    torch.testing.assert_close(ops.swiglu(gate_up), choose_ops("ref").swiglu(gate_up), rtol=2e-6, atol=1e-6)


def test_swiglu_at_the_edges_of_exp(ops: CpuOps) -> None:
    gate = torch.tensor([0.0, -0.0, 87.0, -87.0, 100.0, -100.0, 3e38, -3e38])
    got = ops.swiglu(torch.cat((gate, torch.ones(8)))[None])[0]
    expected = torch.where(gate < -80, 0.0, gate * torch.sigmoid(gate.double())).float()
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=1e-30)
    assert ops.swiglu(torch.full((1, 16), float("nan"))).isnan().all()


def test_rows_are_bit_identical_in_any_company(ops: CpuOps) -> None:
    h, weight, gate_up = torch.randn(37, 64), torch.randn(64), torch.randn(37, 128)
    norms, gated = ops.add_norm(h.clone(), None, weight, 1e-5), ops.swiglu(gate_up)
    for n in (0, 5, 36):
        assert torch.equal(ops.add_norm(h[n : n + 1].clone(), None, weight, 1e-5)[0], norms[n])
        assert torch.equal(ops.swiglu(gate_up[n : n + 1])[0], gated[n])


@pytest.mark.parametrize("kind", ["ref", "cpu"])
def test_angles_are_exact_at_a_billion(kind: str) -> None:
    """Against whole turns taken off in integers: position·frequency mod 2π, here for a frequency that is 2π/1000."""
    spec = WindowSpec(1, 1, 16, 8, 2, tuple(2 * math.pi / 1000 for _ in range(8)))
    ops = choose_ops("cpu" if kind == "cpu" else "ref")
    position = torch.tensor([0, 999_999_990, 7])
    rope = ops.rope(spec, position, torch.tensor([20, 20, 3]), 20)
    turn = ((position[:, None] + torch.arange(20)) % 1000).double() * (2 * math.pi / 1000)
    torch.testing.assert_close(rope.cos[..., 0].double(), turn.cos(), rtol=0, atol=1e-7)
    torch.testing.assert_close(rope.sin[..., 7].double(), turn.sin(), rtol=0, atol=1e-7)


def test_angles_are_the_references_in_any_company(ops: CpuOps) -> None:
    spec = WindowSpec(4, 2, 32, 16, 3, rope_frequencies(1e5, 32))
    position, lengths = torch.tensor([0, 10**9, 511]), torch.tensor([9, 0, 4])
    got, expected = ops.rope(spec, position, lengths, 9), choose_ops("ref").rope(spec, position, lengths, 9)
    names = ("position", "lengths", "cos", "sin", "query_cos", "query_sin", "sink_cos", "sink_sin")
    for name in names:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-7)
    one = ops.rope(spec, position[1:2] + 4, lengths[1:2], 1)
    assert torch.equal(one.cos[0, 0], got.cos[1, 4])
    position += 1  # what a model does at the end of a step changes no Rope
    assert torch.equal(got.position, position - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, "cannot share"),
        ({"inv_freq": (1.0,)}, "frequencies"),
        ({"num_sinks": 9}, "num_sinks"),
        ({"num_sinks": -1}, "num_sinks"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(WindowSpec(4, 2, 16, 8, 2, rope_frequencies(1e4, 16)), **change)


def test_choosing() -> None:
    assert choose_ops("auto").name.startswith("cpu")
    assert choose_ops("ref").name == "ref"
    assert choose_ops("ref").state_dtype == torch.float32
    assert choose_ops("cpu").state_dtype == torch.bfloat16
    assert choose_ops("cpu", batch_invariant=True).batch_invariant
    assert choose_ops("ref", state_dtype=torch.bfloat16).state_dtype == torch.bfloat16
    choose_ops("ref").warm_up()
    choose_ops("cpu").warm_up()


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        choose_ops("cpu", state_dtype=torch.float16)
    with pytest.raises(ValueError, match="not batch-invariant"):
        choose_ops("ref", batch_invariant=True)
    with pytest.raises(ValueError, match="tpu"):
        choose_ops("tpu")  # type: ignore[arg-type]  # what a caller without types may pass
    with pytest.raises(ValueError, match="at least 1"):
        CpuOps(threads=-1)
