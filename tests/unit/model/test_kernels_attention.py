"""Windowed attention of the cpu backend against the reference, and the laws of `Ops.window_attention`, bit for bit."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernels import Ops, WindowSpec, choose_ops, rope_frequencies
from model.kernels.cpu import CpuOps

DTYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def ops(request: pytest.FixtureRequest) -> CpuOps:
    return CpuOps(state_dtype=request.param, threads=2)


@dataclass(frozen=True)
class Case:
    """One call: the geometry, where each row stands, how many tokens it gets; state and tokens follow from the seed."""

    spec: WindowSpec
    position: list[int]
    lengths: list[int]
    T: int
    seed: int

    def qkv(self) -> Tensor:
        g = torch.Generator().manual_seed(self.seed)
        return torch.randn(len(self.position) * self.T, self.spec.qkv_width, generator=g)

    def state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Full of old tokens, as slices of a larger pool."""
        g, s, B = torch.Generator().manual_seed(self.seed + 1), self.spec, len(self.position)
        ring, sink = (B + 1, s.kv_heads, s.window, s.head_dim), (B + 1, s.kv_heads, s.num_sinks, s.head_dim)
        shapes = {"ring_k": ring, "ring_v": ring, "sink_k": sink, "sink_v": sink}
        return {name: torch.randn(shape, generator=g).to(dtype)[:B] for name, shape in shapes.items()}

    def run(self, ops: Ops, state: dict[str, Tensor], start: int, stop: int, rows: slice = slice(None)) -> Tensor:
        """Tokens start … stop of the rows through `ops`; (rows, stop − start, H·D)."""
        position, lengths = torch.tensor(self.position)[rows], torch.tensor(self.lengths)[rows]
        B, T = len(position), stop - start
        qkv = self.qkv().view(len(self.position), self.T, -1)[rows, start:stop].reshape(B * T, -1).contiguous()
        before = qkv.clone()
        rope = ops.rope(self.spec, position + lengths.clamp(max=start), (lengths - start).clamp(0, T), T)
        out = ops.window_attention(qkv, rope, **{name: leaf[rows] for name, leaf in state.items()})
        assert torch.equal(qkv, before)
        return out.view(B, T, -1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    H, G = draw(st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1), (9, 3), (4, 1), (7, 1)]))
    D, W = draw(st.sampled_from([16, 32, 64])), draw(st.sampled_from([1, 3, 8, 20, 130, 260]))
    T = draw(st.integers(1, min(3 * W, 40)))
    B = draw(st.integers(1, 5))
    where = st.sampled_from([0, 1, W - 1, W, W + 1, 2 * W, 10**6, 10**9])
    spec = WindowSpec(H, G, D, W, draw(st.integers(0, min(W, 4))), rope_frequencies(1e5, D))
    position = draw(st.lists(where, min_size=B, max_size=B))
    lengths = draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    return Case(spec, position, lengths, T, draw(st.integers(0, 10**6)))


ANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(case=cases())
def test_attention_is_the_references(ops: CpuOps, case: Case) -> None:
    """Outputs within 2e-5. States: equal but for keys that a last float bit before rounding sent the other way."""
    ref = choose_ops("ref", state_dtype=ops.state_dtype)
    expected_state, got_state = case.state(ops.state_dtype), case.state(ops.state_dtype)
    expected, got = case.run(ref, expected_state, 0, case.T), case.run(ops, got_state, 0, case.T)
    step = 2.0**-7 if ops.state_dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
    for name in ("ring_v", "sink_k", "sink_v"):
        assert torch.equal(got_state[name], expected_state[name])
    torch.testing.assert_close(got_state["ring_k"].float(), expected_state["ring_k"].float(), rtol=step, atol=1e-6)


@ANY
@given(case=cases(), data=st.data())
def test_any_cut_into_chunks_is_bit_identical(ops: CpuOps, case: Case, data: st.DataObject) -> None:
    whole_state, cut_state = case.state(ops.state_dtype), case.state(ops.state_dtype)
    whole = case.run(ops, whole_state, 0, case.T)
    cuts = sorted(data.draw(st.sets(st.integers(1, case.T), max_size=5)) | {case.T})
    parts = [case.run(ops, cut_state, start, stop) for start, stop in zip([0, *cuts], cuts, strict=False)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert all(torch.equal(cut_state[name], whole_state[name]) for name in whole_state)


@ANY
@given(case=cases())
def test_a_row_is_bit_identical_in_any_company(ops: CpuOps, case: Case) -> None:
    together_state, alone_state = case.state(ops.state_dtype), case.state(ops.state_dtype)
    together = case.run(ops, together_state, 0, case.T)
    for b in range(len(case.position)):
        assert torch.equal(case.run(ops, alone_state, 0, case.T, slice(b, b + 1))[0], together[b])
    assert all(torch.equal(alone_state[name], together_state[name]) for name in together_state)


@ANY
@given(case=cases())
def test_padding_writes_nothing(ops: CpuOps, case: Case) -> None:
    before, after = case.state(ops.state_dtype), case.state(ops.state_dtype)
    out = case.run(ops, after, 0, case.T)
    W, sinks = case.spec.window, case.spec.num_sinks
    for b, (position, length) in enumerate(zip(case.position, case.lengths, strict=True)):
        assert not out[b, length:].any()
        written = {p % W for p in range(position, position + length)}
        untouched = [slot for slot in range(W) if slot not in written]
        for name in ("ring_k", "ring_v"):
            assert torch.equal(after[name][b, :, untouched], before[name][b, :, untouched])
        kept = [j for j in range(sinks) if not position <= j < position + length]
        for name in ("sink_k", "sink_v"):
            assert torch.equal(after[name][b, :, kept], before[name][b, :, kept])


def test_threads_change_nothing(ops: CpuOps) -> None:
    spec = WindowSpec(9, 3, 64, 512, 4, rope_frequencies(1e5, 64))
    case = Case(spec, [5000, 100], [33, 20], 33, 1)
    lone = CpuOps(state_dtype=ops.state_dtype, threads=1)
    outs = [case.run(o, case.state(o.state_dtype), 0, 33) for o in (ops, lone)]
    assert torch.equal(*outs)


def test_only_what_is_in_the_window_or_a_sink_is_seen(ops: CpuOps) -> None:
    """Not from the reference: values mark positions, keys are alike, so the output is the mean of what is seen."""
    W, sinks, D = 4, 2, 16
    spec = WindowSpec(1, 1, D, W, sinks, rope_frequencies(1e4, D))
    state = {
        "ring_k": torch.zeros(1, 1, W, D, dtype=ops.state_dtype),
        "ring_v": torch.full((1, 1, W, D), 77.0, dtype=ops.state_dtype),
        "sink_k": torch.zeros(1, 1, sinks, D, dtype=ops.state_dtype),
        "sink_v": torch.full((1, 1, sinks, D), 77.0, dtype=ops.state_dtype),
    }
    seen = []
    for p in range(8):
        qkv = torch.cat((torch.zeros(2 * D), torch.full((D,), float(2**p))))[None]
        out = ops.window_attention(qkv, ops.rope(spec, torch.tensor([p]), torch.tensor([1]), 1), **state)
        seen.append(out[0, 0].item())
    expected = []
    for p in range(8):
        visible = {*range(max(0, p - W + 1), p + 1), *(j for j in range(sinks) if j <= p - W)}
        expected.append(sum(2**j for j in visible) / len(visible))
    assert seen == pytest.approx(expected, rel=1e-6)


def test_distances_never_exceed_the_window(ops: CpuOps) -> None:
    """Far out, the same local text and the same sinks give the same result as just past the window."""
    spec = WindowSpec(4, 2, 32, 16, 4, rope_frequencies(1e5, 32))
    outs = []
    for start in (32, 32 + 16 * 10**5, 32 + 16 * 6 * 10**7):
        case = Case(spec, [start], [40], 40, 3)
        outs.append(case.run(ops, case.state(ops.state_dtype), 0, 40)[0, 20:])
    tolerance = 0.03 if ops.state_dtype == torch.bfloat16 else 2e-5  # keys at other angles round otherwise
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(outs[2], outs[0], rtol=0, atol=tolerance)


def test_a_head_width_not_made_for_vectors(ops: CpuOps) -> None:
    spec = WindowSpec(2, 1, 24, 5, 1, rope_frequencies(1e4, 24))
    case = Case(spec, [3], [7], 7, 0)
    ref = choose_ops("ref", state_dtype=ops.state_dtype)
    got, expected = (case.run(o, case.state(ops.state_dtype), 0, 7) for o in (ops, ref))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    spec = WindowSpec(2, 1, 16, 8, 2, rope_frequencies(1e4, 16))
    case = Case(spec, [3], [1], 1, 0)
    state, rope = case.state(ops.state_dtype), ops.rope(spec, torch.tensor([3]), torch.tensor([1]), 1)
    with pytest.raises(ValueError, match="float32"):
        ops.window_attention(case.qkv().double(), rope, **state)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.window_attention(case.qkv(), rope, **{**state, "ring_k": state["ring_k"].double()})
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.window_attention(case.qkv(), rope, **{**state, "ring_v": state["ring_v"][:, :, :4]})
    with pytest.raises(TypeError, match="same backend"):
        ops.window_attention(case.qkv(), choose_ops("ref").rope(spec, torch.tensor([3]), torch.tensor([1]), 1), **state)
