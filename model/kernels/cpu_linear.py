"""Matrix products of the cpu backend, one kernel for any number of rows.

Weights are repacked at load so that one vector register holds the same few inputs of `LANES` outputs; their own bits
are kept, nothing is requantised. For Q4_1 and Q8_0 the activations are quantised to int8 per group of 32 of a row, as
the weights are, and each group is summed exactly in integers:

    Q4_1, w = d·q + m:   y = Σ_groups s·(d·Σ q·a + m·Σ a)         Q8_0, w = d·q:   y = Σ_groups s·d·Σ q·a

with x ≈ s·a. Plain weights (float32 or bfloat16, kept as they are) meet float32 activations unrounded.

Invariant: a row's result is bit-identical for any number of rows, threads, and on any CPU with fused multiply-add:
sums of integers are exact, sums of floats run over groups (inputs) in order, one output per lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from numba import njit
from torch import Tensor

from model.kernels.cpu_rows import GROUP, quantise_row
from model.kernels.emit import F16, F32, I1, I8, I16, I32, LANES, Emit, Value, cpu_features, has_avx2, routine, vec
from model.kernels.pool import Pool, arg, compile_kernel, compiled, phase, source_version
from model.kernels.ref import dequantise
from model.weights import Q4_1, Q8_0, Weight

CHUNKS = GROUP // 4  # a group is met four inputs at a time: one int32 lane
ITEM = 1 << 23  # products of an item, at most: some 100 microseconds
AHEAD = 8192  # bytes of weights asked for in advance
WIDE = 2 * LANES  # outputs of a tile of plain weights


def half_scales() -> bool:
    """Whether scales stay float16 in memory: where the CPU converts them by itself."""
    return has_avx2() or "neon" in cpu_features()


def _products(e: Emit, w: Value, a: Value) -> Value:
    """Sums of four products per int32 lane, w and a as LANES·4 signed bytes, without special instructions."""
    integers = vec(I32, LANES)
    w, a = e.b.bitcast(w, integers), e.b.bitcast(a, integers)
    total = None
    for i in range(4):
        left, down = e.constant(I32, LANES, 24 - 8 * i), e.constant(I32, LANES, 24)
        product = e.b.mul(e.b.ashr(e.b.shl(w, left), down), e.b.ashr(e.b.shl(a, left), down))
        total = product if total is None else e.b.add(total, product)
    return total


def _four_bit_product(e: Emit, w: Value, a: Value) -> Value:
    """w bytes 0 … 15, a signed bytes. With AVX2 sums of pairs as int16, which hold the 8 of a group, 8·2·15·127."""
    if has_avx2():
        return e.call("llvm.x86.avx2.pmadd.ub.sw", vec(I16, 2 * LANES), w, a)
    return _products(e, w, a)


def _four_bit_total(e: Emit, total: Value) -> Value:
    """Sums of a group as int32, one per output."""
    if has_avx2():
        return e.call("llvm.x86.avx2.pmadd.wd", vec(I32, LANES), total, e.constant(I16, 2 * LANES, 1))
    return total


def _eight_bit_product(e: Emit, w: Value, a: Value) -> Value:
    """w, a signed bytes. With AVX2 |w|·(±a): its instruction wants the first factor unsigned; 2·128·127 fits int16."""
    if not has_avx2():
        return _products(e, w, a)
    size = vec(I8, 4 * LANES)
    magnitude = e.call(f"llvm.abs.v{4 * LANES}i8", size, w, e.scalar(I1, 0))
    signed = e.call("llvm.x86.avx2.psign.b", size, a, w)
    pairs = e.call("llvm.x86.avx2.pmadd.ub.sw", vec(I16, 2 * LANES), magnitude, signed)
    return e.call("llvm.x86.avx2.pmadd.wd", vec(I32, LANES), pairs, e.constant(I16, 2 * LANES, 1))


def _add(e: Emit, total: Value | None, product: Value) -> Value:
    return product if total is None else e.b.add(total, product)


def _fetch_ahead(e: Emit, base: Value, size: int) -> None:
    """Ask for what will be read AHEAD bytes later: the hardware stops looking ahead at every page's end, and one
    row's product is as fast as memory. Past the end of the weights it asks for nothing that matters."""
    for line in range(0, size, 64):
        e.prefetch(e.at(base, AHEAD + line))


def _scales(e: Emit, address: Value) -> Value:
    """LANES scales as floats."""
    if half_scales():
        return e.b.fpext(e.load(address, vec(F16, LANES)), e.floats)
    return e.load(address, e.floats)


def _activations(e: Emit, x: Value, chunk: int) -> Value:
    """Four int8 activations, repeated for every output, as bytes."""
    return e.b.bitcast(e.splat(e.load(e.at(x, 4 * chunk), I32)), vec(I8, 4 * LANES))


def _q4_tile(rows: int) -> Any:
    """(w, groups, x, s, y, bytes of a row of x, of s, of y): LANES outputs of `rows` rows, Q4_1."""
    scale_bytes = LANES * (2 if half_scales() else 4)
    record = GROUP // 2 * LANES + 2 * scale_bytes

    @routine(8)
    def tile(e: Emit, args: Sequence[Value]) -> None:
        w, groups, x, s, y, x_row, s_row, y_row = args
        bytes_, words = vec(I8, 4 * LANES), vec(I16, 2 * LANES)
        mask, shift = e.constant(I8, 4 * LANES, 15), e.constant(I16, 2 * LANES, 4)
        sums = e.variables(rows, e.f(0.0))
        with e.loop(groups) as g:
            base = e.at(w, e.times(g, record))
            _fetch_ahead(e, base, record)
            row = [e.at(x, e.times(x_row, r), e.times(g, GROUP)) for r in range(rows)]
            dots: list[Value] = [None] * rows
            for j in range(CHUNKS // 2):  # rows innermost: two vectors of weights at a time leave registers for sums
                packed = e.load(e.at(base, 4 * LANES * j), bytes_)
                low = e.b.and_(packed, mask)
                high = e.b.and_(e.b.bitcast(e.b.lshr(e.b.bitcast(packed, words), shift), bytes_), mask)
                for chunk, part in ((j, low), (j + CHUNKS // 2, high)):
                    for r in range(rows):
                        dots[r] = _add(e, dots[r], _four_bit_product(e, part, _activations(e, row[r], chunk)))
            d = _scales(e, e.at(base, GROUP // 2 * LANES))
            m = _scales(e, e.at(base, GROUP // 2 * LANES + scale_bytes))
            for r in range(rows):
                total = e.b.sitofp(_four_bit_total(e, dots[r]), e.floats)
                scale = e.at(s, e.times(s_row, r), e.times(g, 8))
                offset = e.b.fmul(m, e.splat(e.load(e.at(scale, 4), F32)))
                group = e.fma(d, total, offset)
                e.put(e.fma(e.splat(e.load(scale, F32)), group, e.get(sums[r])), sums[r])
        for r in range(rows):
            e.store(e.get(sums[r]), e.at(y, e.times(y_row, r)))

    return tile


def _q8_tile(rows: int) -> Any:
    """(w, groups, x, s, y, bytes of a row of x, of s, of y): LANES outputs of `rows` rows, Q8_0."""
    scale_bytes = LANES * (2 if half_scales() else 4)

    @routine(8)
    def tile(e: Emit, args: Sequence[Value]) -> None:
        w, groups, x, s, y, x_row, s_row, y_row = args
        sums = e.variables(rows, e.f(0.0))
        scales = e.at(w, e.times(groups, GROUP * LANES))
        with e.loop(groups) as g:
            base = e.at(w, e.times(g, GROUP * LANES))
            _fetch_ahead(e, base, GROUP * LANES)
            row = [e.at(x, e.times(x_row, r), e.times(g, GROUP)) for r in range(rows)]
            dots: list[Value] = [None] * rows
            for j in range(CHUNKS):
                part = e.load(e.at(base, 4 * LANES * j), vec(I8, 4 * LANES))
                for r in range(rows):
                    dots[r] = _add(e, dots[r], _eight_bit_product(e, part, _activations(e, row[r], j)))
            d = _scales(e, e.at(scales, e.times(g, scale_bytes)))
            for r in range(rows):
                scale = e.splat(e.load(e.at(s, e.times(s_row, r), e.times(g, 8)), F32))
                e.put(e.fma(e.b.fmul(d, scale), e.b.sitofp(dots[r], e.floats), e.get(sums[r])), sums[r])
        for r in range(rows):
            e.store(e.get(sums[r]), e.at(y, e.times(y_row, r)))

    return tile


def _plain_tile(rows: int, bfloat16: bool) -> Any:
    """(w, inputs, x, unused, y, bytes of a row of x, unused, of y): WIDE outputs of `rows` rows, plain weights."""
    size = 2 if bfloat16 else 4

    @routine(8)
    def tile(e: Emit, args: Sequence[Value]) -> None:
        w, inputs, x, _, y, x_row, _, y_row = args
        sums = e.variables(2 * rows, e.f(0.0))
        with e.loop(inputs) as k:
            base = e.at(w, e.times(k, WIDE * size))
            _fetch_ahead(e, base, WIDE * size)
            halves = [e.widen(e.at(base, i * LANES * size), bfloat16) for i in range(2)]
            for r in range(rows):
                value = e.splat(e.load(e.at(x, e.times(x_row, r), e.times(k, 4)), F32))
                for i in range(2):
                    e.put(e.fma(value, halves[i], e.get(sums[2 * r + i])), sums[2 * r + i])
        for r in range(rows):
            for i in range(2):
                e.store(e.get(sums[2 * r + i]), e.at(y, e.times(y_row, r), 4 * LANES * i))

    return tile


@njit(error_model="numpy")
def scales_at(rows: int, inputs: int) -> int:
    """Offset of the scales behind the int8 activations, in bytes."""
    return (rows * inputs + 63) // 64 * 64


@njit(error_model="numpy")
def quantise_rows(args: int, item: int) -> None:
    """x → int8 and scales in the scratch. args: x, N, inputs, rows per item, scratch."""
    x, rows, inputs, step, scratch = arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)
    groups, scales = inputs // GROUP, scratch + scales_at(rows, inputs)
    for n in range(item * step, min(rows, (item + 1) * step)):
        quantise_row(x + 4 * inputs * n, groups, scratch + inputs * n, scales + 8 * groups * n)


def _tiles(name: str, tile: Callable[[int], Any], quantised: bool) -> Any:
    """The kernel that runs an item's tiles over all rows, several rows at a time."""
    four, two, one = tile(4), tile(2), tile(1)

    @compiled(f"tiles_{name}")
    def tiles(args: int, item: int) -> None:
        """args: x, N, inputs, w, tiles, tiles per item, bytes of a tile, y, bytes of a row of y, scratch."""
        rows, inputs, w, count = arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)
        step, size, y, y_row = arg(args, 5), arg(args, 6), arg(args, 7), arg(args, 8)
        if quantised:
            x, x_row, steps, lanes = arg(args, 9), inputs, inputs // GROUP, LANES
            s, s_row = x + scales_at(rows, inputs), 8 * steps
        else:
            x, x_row, steps, lanes = arg(args, 0), 4 * inputs, inputs, WIDE
            s, s_row = 0, 0
        for i in range(item * step, min(count, (item + 1) * step)):
            base, out = w + i * size, y + 4 * lanes * i
            n = 0
            while n + 4 <= rows:
                four(base, steps, x + n * x_row, s + n * s_row, out + n * y_row, x_row, s_row, y_row)
                n += 4
            if n + 2 <= rows:
                two(base, steps, x + n * x_row, s + n * s_row, out + n * y_row, x_row, s_row, y_row)
                n += 2
            if n < rows:
                one(base, steps, x + n * x_row, s + n * s_row, out + n * y_row, x_row, s_row, y_row)

    return tiles


q4_tiles = _tiles("q4", _q4_tile, quantised=True)
q8_tiles = _tiles("q8", _q8_tile, quantised=True)
f32_tiles = _tiles("f32", lambda rows: _plain_tile(rows, bfloat16=False), quantised=False)
bf16_tiles = _tiles("bf16", lambda rows: _plain_tile(rows, bfloat16=True), quantised=False)


class LinearKernels(NamedTuple):
    """Addresses for `Pool.run`."""

    quantise: int
    q4: int
    q8: int
    f32: int
    bf16: int


@cache
def linear_kernels() -> LinearKernels:
    """Compile them, or load them from the cache."""
    version = source_version()

    def quantise(args: int, item: int) -> None:
        if version:
            quantise_rows(args, item)

    def q4(args: int, item: int) -> None:
        if version:
            q4_tiles(args, item)

    def q8(args: int, item: int) -> None:
        if version:
            q8_tiles(args, item)

    def f32(args: int, item: int) -> None:
        if version:
            f32_tiles(args, item)

    def bf16(args: int, item: int) -> None:
        if version:
            bf16_tiles(args, item)

    return LinearKernels(*(compile_kernel(entry) for entry in (quantise, q4, q8, f32, bf16)))


def pad_rows(x: Tensor, multiple: int) -> Tensor:
    """Rows of zeros appended until their number is a multiple."""
    missing = -len(x) % multiple
    return x if not missing else torch.cat((x, x.new_zeros(missing, *x.shape[1:])))


def _scale_bytes(x: Tensor) -> Tensor:
    """(tiles, LANES, groups) scales → (tiles, groups, bytes), as the tiles read them."""
    stored = x.to(torch.float16 if half_scales() else torch.float32)
    return stored.transpose(1, 2).contiguous().view(torch.uint8)


def pack_q4(weight: Q4_1) -> Tensor:
    """(tiles, bytes): per group LANES·16 bytes of nibbles, then d, then m of the LANES outputs."""
    groups = weight.shape[1] // GROUP
    # Four inputs' bytes as one integer: they stay together.
    q = pad_rows(weight.q, LANES).contiguous().view(torch.int32).view(-1, LANES, groups, 2, CHUNKS // 2)
    nibbles = (q[:, :, :, 0] | (q[:, :, :, 1] << 4)).permute(0, 2, 3, 1)  # tile, group, chunk, output
    d, m = (_scale_bytes(pad_rows(x, LANES).view(-1, LANES, groups)) for x in (weight.d, weight.m))
    body = nibbles.reshape(len(q), groups, -1).view(torch.uint8)
    return torch.cat((body, d, m), dim=2).flatten(1)


def pack_q8(weight: Q8_0) -> Tensor:
    """(tiles, bytes): per group LANES·32 signed bytes; behind all groups their d."""
    groups = weight.shape[1] // GROUP
    q = pad_rows(weight.q, LANES).contiguous().view(torch.int32).view(-1, LANES, groups, CHUNKS)
    body = q.permute(0, 2, 3, 1).reshape(len(q), -1).view(torch.uint8)  # tile, group, chunk, output
    d = _scale_bytes(pad_rows(weight.d, LANES).view(-1, LANES, groups))
    return torch.cat((body, d.flatten(1)), dim=1)


def pack_plain(weight: Tensor) -> Tensor:
    """(tiles, inputs·WIDE) float32 or bfloat16: per input the WIDE outputs' weights."""
    stored = weight if weight.dtype == torch.bfloat16 else weight.float()
    w = pad_rows(stored, WIDE).view(-1, WIDE, weight.shape[1])
    return w.transpose(1, 2).flatten(1).contiguous()


class Product:
    """x·Wᵀ; see the module's docstring."""

    def __init__(self, pool: Pool, weights: Sequence[Weight]) -> None:
        if len({weight.shape[1] for weight in weights}) != 1:
            raise ValueError(f"stacked weights must share their inputs, not {[tuple(w.shape) for w in weights]}")
        self._pool = pool
        self.in_features = int(weights[0].shape[1])
        self.out_features = sum(int(weight.shape[0]) for weight in weights)
        self._packed, self._kernel, self._lanes, self._quantised = _pack(weights)
        self._tiles, size = self._packed.shape
        self._size = size * self._packed.dtype.itemsize

        self.padded = self._tiles * self._lanes  # width of what is written: whole tiles

    def scratch(self, rows: int) -> int:
        """Bytes of scratch that a product of so many rows needs."""
        return (rows * self.in_features + 63) // 64 * 64 + 8 * rows * (self.in_features // GROUP)

    def phases(self, rows: int, x: int, y: int, scratch: int) -> tuple[tuple[int, ...], ...]:
        """x (rows, in) → y (rows, padded), all addresses. Always two phases: the first may have no items."""
        items, step = 0, rows
        if self._quantised:
            # Below a few rows it is quicker done than shared out.
            step = rows if rows < 4 else max(1, min(16, rows // self._pool.threads))
            items = -(-rows // step)
        # Tiles per item: several items per thread, so that one that is held up does not hold up all, each worth taking.
        most = ITEM // (rows * self.in_features * self._lanes + 1)
        tiles = max(1, min(self._tiles // (8 * self._pool.threads), most))
        quantise = phase(linear_kernels().quantise, items, x, rows, self.in_features, step, scratch)
        # fmt: off
        return quantise, phase(
            self._kernel, -(-self._tiles // tiles), x, rows, self.in_features, self._packed.data_ptr(), self._tiles,
            tiles, self._size, y, 4 * self.padded, scratch,
        )
        # fmt: on

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.dim() != 2 or x.shape[1] != self.in_features or not x.is_contiguous():
            raise ValueError(f"expected contiguous float32 (N, {self.in_features}), not {x.dtype} {tuple(x.shape)}")
        rows = len(x)
        y = torch.empty(rows, self.padded)
        with self._pool.lock:
            scratch = self._pool.scratch(self.scratch(rows))
            self._pool.run(*self.phases(rows, x.data_ptr(), y.data_ptr(), scratch))
        return y if self.padded == self.out_features else y[:, : self.out_features].contiguous()


def _pack(weights: Sequence[Weight]) -> tuple[Tensor, int, int, bool]:
    """The stacked weights repacked, their kernel, the outputs of a tile, and whether activations are quantised."""
    kernels = linear_kernels()
    if all(isinstance(w, Q4_1) and _fit(w.d, w.m) for w in weights):
        stacked = Q4_1(*(torch.cat([getattr(w, name) for w in weights]) for name in ("q", "d", "m")))
        return pack_q4(stacked), kernels.q4, LANES, True
    if all(isinstance(w, Q8_0) and _fit(w.d) for w in weights):
        stacked_8 = Q8_0(*(torch.cat([getattr(w, name) for w in weights]) for name in ("q", "d")))
        return pack_q8(stacked_8), kernels.q8, LANES, True
    # Plain weights; and what no file we know has becomes plain: kinds mixed in one stack, scales that are no halves.
    bfloat16 = all(isinstance(w, Tensor) and w.dtype == torch.bfloat16 for w in weights)
    plain = torch.cat([w if isinstance(w, Tensor) and bfloat16 else dequantise(w) for w in weights])
    return pack_plain(plain), kernels.bf16 if bfloat16 else kernels.f32, WIDE, False


def _fit(*scales: Tensor) -> bool:
    """Whether scales lose nothing in the form they are kept in."""
    return all(x.dtype == torch.float16 or torch.equal(x.half().float(), x.float()) for x in scales)
