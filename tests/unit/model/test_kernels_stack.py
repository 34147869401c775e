"""Layers as one call: the same bits as the single operations, and the reference's numbers."""

import pytest
import torch
from torch import Tensor

from model.kernels import Block, Ops, Recollection, Stack, Window, WindowSpec, choose_ops, rope_frequencies
from model.kernels.cpu import CpuOps
from model.kernels.cpu_stack import CpuStack
from model.kernels.ref import RefStack
from model.recall import Fixed, Leaves
from model.weights import Q4_1, Q8_0, Weight

E, F, LAYERS, EPS = 64, 96, 3, 1e-5
SPEC = WindowSpec(4, 2, 16, 8, 2, rope_frequencies(1e4, 16))


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


def weight(out: int, inputs: int, kind: str, g: torch.Generator) -> Weight:
    if kind == "q4":
        d = (torch.rand(out, inputs // 32, generator=g) * 0.02).half()
        return Q4_1(torch.randint(0, 16, (out, inputs), dtype=torch.uint8, generator=g), d, (-7.5 * d.float()).half())
    if kind == "q8":
        q = torch.randint(-127, 128, (out, inputs), dtype=torch.int8, generator=g)
        return Q8_0(q, (torch.rand(out, inputs // 32, generator=g) * 0.002).half())
    return plain(out, inputs, g)


def plain(out: int, inputs: int, g: torch.Generator) -> Tensor:
    return torch.randn(out, inputs, generator=g) / inputs**0.5


def blocks(ops: Ops, kind: str, spec: WindowSpec = SPEC, width: int = E) -> list[Block]:
    g = torch.Generator().manual_seed(0)

    def norm() -> Tensor:
        return torch.rand(width, generator=g) + 0.5

    def product(out: int, inputs: int) -> Weight:
        return weight(out, inputs, kind, g)

    H, D = spec.heads, spec.head_dim
    return [
        Block(
            norm(),
            ops.linear([product(spec.qkv_width, width)]),
            ops.linear([product(width, H * D)]),
            norm(),
            ops.linear([product(2 * F, width)]),
            ops.linear([product(width, F)]),
        )
        for _ in range(LAYERS)
    ]


def windows(dtype: torch.dtype, rows: int, spec: WindowSpec = SPEC) -> list[Window]:
    def zeros(n: int) -> Tensor:
        return torch.zeros(rows, spec.kv_heads, n, spec.head_dim, dtype=dtype)

    W, sinks = spec.window, spec.num_sinks
    return [Window(zeros(W), zeros(W), zeros(sinks), zeros(sinks)) for _ in range(LAYERS)]


def read(ops: Ops, stack: Stack, chunks: list[list[int]], spec: WindowSpec = SPEC, width: int = E) -> list[Tensor]:
    """Read chunks of ragged lengths; what comes out each time, and the state at the end."""
    rows = len(chunks[0])
    state, position = windows(ops.state_dtype, rows, spec), torch.tensor([0, 5, 10**6][:rows])
    g, found = torch.Generator().manual_seed(1), []
    for i, lengths in enumerate(chunks):
        T = max(lengths)
        h = torch.randn(rows * T, width, generator=g)
        first = torch.randn(rows * T, width, generator=g) if i % 2 else None
        delta = stack(h, first, ops.rope(spec, position, torch.tensor(lengths), T), state)
        real = (torch.arange(T) < torch.tensor(lengths)[:, None]).flatten()
        found += [h[real], delta[real]]
        position = position + torch.tensor(lengths)
    return found + [leaf for window in state for leaf in window]


CHUNKS = [[1, 1, 1], [7, 0, 3], [1, 1, 0], [20, 19, 1], [1, 1, 1]]


@pytest.mark.parametrize("kind", ["q4", "q8", "f32"])
def test_the_same_bits_as_the_single_operations(ops: CpuOps, kind: str) -> None:
    layers = blocks(ops, kind)
    stack = ops.stack(layers, EPS)
    assert isinstance(stack, CpuStack)
    together, one_by_one = read(ops, stack, CHUNKS), read(ops, RefStack(ops, layers, EPS, {}), CHUNKS)
    for got, expected in zip(together, one_by_one, strict=True):
        assert torch.equal(got, expected)


def recollection(ops: Ops, seed: int, *, h: int = 2, d_k: int = 16, d_v: int = 24, own: bool = False) -> Recollection:
    g = torch.Generator().manual_seed(seed)
    K, V, P = h * d_k, h * d_v, 2 * h * d_k + 2 * h + (h * d_v if own else 0)
    values = None if own else ops.linear([plain(V, E, g).bfloat16()])
    taps, bias = torch.randn(3, 2 * K + V, generator=g), torch.randn(P, generator=g)
    fixed = Fixed(h, d_k, d_v, bias, taps, None, None, 1e-5, gated=True, own_values=own)
    project, out = plain(P, E, g).bfloat16(), weight(E, V, "q8" if V % 32 == 0 else "f32", g)
    return Recollection(ops.linear([project]), values, torch.ones(E), fixed, ops.linear([out]))


def remember(ops: Ops, stack: Stack, memories: dict[int, Recollection], chunks: list[list[int]]) -> list[Tensor]:
    """`read` with memories: what comes out each time, the hidden vectors, and all states at the end."""
    rows, g, found = len(chunks[0]), torch.Generator().manual_seed(1), []
    state, position = windows(ops.state_dtype, rows), torch.tensor([0, 5, 10**6][:rows])
    leaves = []
    for m in (memory.fixed for memory in memories.values()):
        K, V = m.heads * m.key_dim, m.heads * m.value_dim
        waiting = torch.zeros(rows, m.heads, 8, m.key_dim + m.value_dim + 3, dtype=ops.state_dtype)
        tails = (torch.zeros(rows, 2, n) for n in (K, K, V))
        M, writes = torch.zeros(rows, m.heads, m.key_dim, m.value_dim), torch.zeros(rows, dtype=torch.int64)
        leaves.append(Leaves(M, *tails, waiting, writes, torch.zeros(rows, dtype=torch.uint8)))
    for lengths in chunks:
        T = max(lengths)
        h, e = torch.randn(rows * T, E, generator=g), torch.randn(rows * T, E, generator=g)
        delta = stack(h, None, ops.rope(SPEC, position, torch.tensor(lengths), T), state, e, leaves)
        real = (torch.arange(T) < torch.tensor(lengths)[:, None]).flatten()
        found += [h[real], delta[real]]
        position = position + torch.tensor(lengths)
    assert all(own.M.any() for own in leaves)
    return found + [leaf for parts in (state, leaves) for own in parts for leaf in own if leaf is not None]


@pytest.mark.parametrize("kind", ["q4", "f32"])
def test_memories_between_layers_give_the_same_bits(ops: CpuOps, kind: str) -> None:
    """Two that read different layers' inputs, the first of them included; one with values of its own."""
    layers, memories = blocks(ops, kind), {0: recollection(ops, 1), 2: recollection(ops, 2, h=1, d_v=64, own=True)}
    stack = ops.stack(layers, EPS, memories)
    assert isinstance(stack, CpuStack)
    together = remember(ops, stack, memories, CHUNKS)
    one_by_one = remember(ops, RefStack(ops, layers, EPS, memories), memories, CHUNKS)
    for got, expected in zip(together, one_by_one, strict=True):
        assert torch.equal(got, expected)


def test_a_memory_not_made_for_one_program_still_runs(ops: CpuOps) -> None:
    layers, memories = blocks(ops, "q4"), {1: recollection(ops, 1, d_k=5)}
    stack = ops.stack(layers, EPS, memories)
    assert isinstance(stack, RefStack)
    remember(ops, stack, memories, CHUNKS[:4])


def test_memories_need_the_embeddings(ops: CpuOps) -> None:
    memories = {1: recollection(ops, 1)}
    rope = ops.rope(SPEC, torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64), 1)
    own = windows(ops.state_dtype, 1)
    for stack in (ops.stack(blocks(ops, "q4"), EPS, memories), RefStack(ops, blocks(ops, "q4"), EPS, memories)):
        leaves = Leaves(*(None,) * 7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="embeddings"):
            stack(torch.zeros(1, E), None, rope, own, None, [leaves])


@pytest.mark.parametrize("state_dtype", [torch.bfloat16, torch.float32])
def test_the_references_numbers(state_dtype: torch.dtype) -> None:
    ops, ref = CpuOps(state_dtype=state_dtype), choose_ops("ref", state_dtype=state_dtype)
    got = read(ops, ops.stack(blocks(ops, "f32"), EPS), CHUNKS)
    expected = read(ref, ref.stack(blocks(ref, "f32"), EPS), CHUNKS)
    tolerance = 0.05 if state_dtype == torch.bfloat16 else 1e-4  # a rounding to bfloat16 may go the other way
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=tolerance, atol=tolerance)


def test_rows_alone_give_the_same_bits(ops: CpuOps) -> None:
    stack = ops.stack(blocks(ops, "q4"), EPS)
    g = torch.Generator().manual_seed(2)
    h, position = torch.randn(5, E, generator=g), torch.tensor([0, 3, 8, 100, 10**9])
    ones = torch.ones(5, dtype=torch.int64)
    delta = stack(h.clone(), None, ops.rope(SPEC, position, ones, 1), windows(ops.state_dtype, 5))
    for n in range(5):
        rope = ops.rope(SPEC, position[n : n + 1], ones[:1], 1)
        alone = stack(h[n : n + 1].clone(), None, rope, windows(ops.state_dtype, 1))
        assert torch.equal(alone[0], delta[n])


def test_shapes_not_made_for_one_program_still_run(ops: CpuOps) -> None:
    """Outputs that fill no tile; a head of 24."""
    spec = WindowSpec(2, 1, 24, 8, 2, rope_frequencies(1e4, 24))
    for geometry, width in ((SPEC, 20), (spec, E)):
        layers = blocks(ops, "f32", geometry, width)
        got = read(ops, ops.stack(layers, EPS), CHUNKS[:2], geometry, width)
        for a, b in zip(got, read(ops, RefStack(ops, layers, EPS, {}), CHUNKS[:2], geometry, width), strict=True):
            assert torch.equal(a, b)


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    stack = ops.stack(blocks(ops, "q4"), EPS)
    one = torch.ones(1, dtype=torch.int64)
    rope, state = ops.rope(SPEC, one, one, 1), windows(ops.state_dtype, 1)
    with pytest.raises(ValueError, match="as many windows"):
        stack(torch.zeros(1, E), None, rope, state[:2])
    with pytest.raises(ValueError, match="contiguous float32"):
        stack(torch.zeros(2, E), None, rope, state)
    with pytest.raises(ValueError, match="contiguous float32"):
        stack(torch.zeros(1, E), torch.zeros(1, E + 1), rope, state)
    with pytest.raises(ValueError, match="contiguous rows"):
        stack(torch.zeros(1, E), None, rope, windows(torch.float64, 1))
    other = WindowSpec(2, 2, 16, 8, 2, rope_frequencies(1e4, 16))
    with pytest.raises(ValueError, match="spec says otherwise"):
        stack(torch.zeros(1, E), None, ops.rope(other, one, one, 1), windows(ops.state_dtype, 1, other))
