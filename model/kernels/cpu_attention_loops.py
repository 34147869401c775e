"""The inner loops of windowed attention, in vectors: RoPE, scores, softmax, weighted sums.

Each takes addresses and sizes. Every sum runs in one written order, whatever is computed together. Head widths are
multiples of 16, so that half a head is whole vectors. What they are for: `cpu_attention.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.kernels.emit import F32, I32, I64, LANES, Emit, Value, routine

AHEAD = 2048  # bytes of keys asked for in advance


def rotate(bfloat16: bool) -> Any:
    """(x, cos, sin, out, vectors of a half, scale bits): out = RoPE(x)·scale, float32 or rounded to bfloat16."""

    @routine(6)
    def rotate_(e: Emit, args: Sequence[Value]) -> None:
        x, cos, sin, out, vectors, bits = args
        scale = e.splat(e.b.bitcast(e.b.trunc(bits, I32), F32))
        half = e.times(vectors, 4 * LANES)
        out_half = e.times(vectors, (2 if bfloat16 else 4) * LANES)
        with e.loop(vectors) as i:
            offset, out_offset = e.times(i, 4 * LANES), e.times(i, (2 if bfloat16 else 4) * LANES)
            x1, x2 = e.load(e.at(x, offset), e.floats), e.load(e.at(x, half, offset), e.floats)
            c, s = e.load(e.at(cos, offset), e.floats), e.load(e.at(sin, offset), e.floats)
            first = e.b.fsub(e.b.fmul(x1, c), e.b.fmul(x2, s))
            second = e.b.fadd(e.b.fmul(x2, c), e.b.fmul(x1, s))
            e.narrow(e.b.fmul(first, scale), e.at(out, out_offset), bfloat16)
            e.narrow(e.b.fmul(second, scale), e.at(out, out_half, out_offset), bfloat16)

    return rotate_


def convert(from_bf16: bool, to_bf16: bool) -> Any:
    """(x, out, vectors): a copy, rounded or widened."""

    @routine(3)
    def convert_(e: Emit, args: Sequence[Value]) -> None:
        x, out, vectors = args
        with e.loop(vectors) as i:
            value = e.widen(e.at(x, e.times(i, (2 if from_bf16 else 4) * LANES)), from_bf16)
            e.narrow(value, e.at(out, e.times(i, (2 if to_bf16 else 4) * LANES)), to_bf16)

    return convert_


def scores(queries: int, bfloat16: bool) -> Any:
    """(q, keys, out, vectors, keys' number, bytes of a row of out, values): out[r, i] = q[r]·key[i].

    q and keys row after row. On the way it asks for the keys AHEAD bytes on, and for as many of the values, which are
    read next: a window of many rows comes from memory, and the hardware does not see that coming.
    """
    size = 2 if bfloat16 else 4

    @routine(7)
    def scores_(e: Emit, args: Sequence[Value]) -> None:
        q, keys, out, vectors, count, out_row, values = args
        row, key_row = e.times(vectors, 4 * LANES), e.times(vectors, size * LANES)

        def some(first: Value, together: int) -> None:
            sums = e.variables(queries * together, e.f(0.0))
            base = e.at(keys, e.b.mul(first, key_row))
            with e.loop(vectors) as c:
                ks = [
                    e.widen(e.at(base, e.times(key_row, i), e.times(c, size * LANES)), bfloat16)
                    for i in range(together)
                ]
                for r in range(queries):
                    part = e.load(e.at(q, e.times(row, r), e.times(c, 4 * LANES)), e.floats)
                    for i in range(together):
                        total = sums[r * together + i]
                        e.put(e.fma(part, ks[i], e.get(total)), total)
            for r in range(queries):
                for i in range(together):
                    dot = e.reduce(e.get(sums[r * together + i]), e.b.fadd)
                    e.store(dot, e.at(out, e.times(out_row, r), e.times(first, 4), 4 * i))

        pairs = e.b.lshr(count, e.scalar(I64, 1))
        lines = e.b.lshr(key_row, e.scalar(I64, 5))  # of two keys
        with e.loop(pairs) as pair:
            with e.loop(lines) as line:
                place = e.at(e.b.mul(pair, e.times(key_row, 2)), e.times(line, 64))
                e.prefetch(e.at(keys, place, AHEAD))
                e.prefetch(e.at(values, place))
            some(e.times(pair, 2), 2)
        with e.loop(e.b.and_(count, e.scalar(I64, 1))):
            some(e.b.sub(count, e.scalar(I64, 1)), 1)

    return scores_


def weighted(queries: int, chunk: int, bfloat16: bool) -> Any:
    """(p, values, o, vectors, values' number, bytes of a row of p, of o): o[r] += Σ_i p[r, i]·value[i].

    `chunk` vectors of the head at a time: they and their sums stay in registers.
    """
    size = 2 if bfloat16 else 4

    @routine(7)
    def weighted_(e: Emit, args: Sequence[Value]) -> None:
        p, values, o, vectors, count, p_row, o_row = args
        value_row = e.times(vectors, size * LANES)
        with e.loop(e.b.udiv(vectors, e.scalar(I64, chunk))) as part:
            column = e.times(part, chunk)
            sums = e.variables(queries * chunk, e.f(0.0))
            places = [
                e.at(o, e.times(o_row, r), e.times(column, 4 * LANES), 4 * LANES * c)
                for r in range(queries)
                for c in range(chunk)
            ]
            for place, total in zip(places, sums, strict=True):
                e.put(e.load(place, e.floats), total)
            with e.loop(count) as i:
                base = e.at(values, e.b.mul(i, value_row), e.times(column, size * LANES))
                vs = [e.widen(e.at(base, size * LANES * c), bfloat16) for c in range(chunk)]
                for r in range(queries):
                    weight = e.splat(e.load(e.at(p, e.times(p_row, r), e.times(i, 4)), F32))
                    for c in range(chunk):
                        total = sums[r * chunk + c]
                        e.put(e.fma(weight, vs[c], e.get(total)), total)
            for place, total in zip(places, sums, strict=True):
                e.store(e.get(total), place)

    return weighted_


@routine(3)
def exponentials(e: Emit, args: Sequence[Value]) -> None:
    """(scores, count, stats): scores ← e^(s−m), stats = (m, Σ); up to LANES−1 numbers behind the scores are changed."""
    scores, count, stats = args
    e.store(e.f(float("-inf")), e.at(scores, e.times(count, 4)))
    vectors = e.b.lshr(e.b.add(count, e.scalar(I64, LANES - 1)), e.scalar(I64, LANES.bit_length() - 1))
    best, total = e.variables(2, e.f(float("-inf")))
    e.put(e.f(0.0), total)
    with e.loop(vectors) as i:
        e.put(e.greater(e.get(best), e.load(e.at(scores, e.times(i, 4 * LANES)), e.floats)), best)
    top = e.reduce(e.get(best), lambda a, b: e.b.select(e.b.fcmp_ordered(">", a, b), a, b))
    m = e.splat(top)
    with e.loop(vectors) as i:
        place = e.at(scores, e.times(i, 4 * LANES))
        value = e.exp(e.b.fsub(e.load(place, e.floats), m))
        e.store(value, place)
        e.put(e.b.fadd(e.get(total), value), total)
    e.store(top, stats)
    e.store(e.reduce(e.get(total), e.b.fadd), e.at(stats, 4))


@routine(5)
def combine(e: Emit, args: Sequence[Value]) -> None:
    """(partials, blocks, bytes from block to block, out, vectors): out = Σ e^(m_i−m)·o_i / Σ e^(m_i−m)·l_i.

    A partial is (m, l, padding to LANES floats, o).
    """
    partials, blocks, stride, out, vectors = args
    (best,) = e.variables(1, e.scalar(F32, float("-inf")))
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(blocks) as i:
        m = e.load(e.at(partials, e.b.mul(i, stride)), F32)
        e.put(e.b.select(e.b.fcmp_ordered(">", e.get(best), m), e.get(best), m), best)

    def factor(i: Value) -> Value:
        m = e.load(e.at(partials, e.b.mul(i, stride)), F32)
        return e.exp(e.splat(e.b.fsub(m, e.get(best))))

    with e.loop(blocks) as i:
        part = e.splat(e.load(e.at(partials, e.b.mul(i, stride), 4), F32))
        e.put(e.fma(factor(i), part, e.get(total)), total)
        place = e.at(partials, e.b.mul(i, stride))
        e.store(factor(i), place)  # the factor in every lane, in place of m and l, which have done their work
    with e.loop(vectors) as c:
        (sums,) = e.variables(1, e.f(0.0))
        with e.loop(blocks) as i:
            place = e.at(partials, e.b.mul(i, stride))
            value = e.load(e.at(place, e.times(c, 4 * LANES), 4 * LANES), e.floats)
            e.put(e.fma(e.load(place, e.floats), value, e.get(sums)), sums)
        e.store(e.b.fdiv(e.get(sums), e.get(total)), e.at(out, e.times(c, 4 * LANES)))


@routine(3)
def copy(e: Emit, args: Sequence[Value]) -> None:
    """(x, out, vectors): the same bits, 4·LANES bytes a vector."""
    x, out, vectors = args
    with e.loop(vectors) as i:
        e.store(e.load(e.at(x, e.times(i, 4 * LANES)), e.floats), e.at(out, e.times(i, 4 * LANES)))


@routine(3)
def zeros(e: Emit, args: Sequence[Value]) -> None:
    """(out, vectors, unused): a run of zeros."""
    with e.loop(args[1]) as i:
        e.store(e.f(0.0), e.at(args[0], e.times(i, 4 * LANES)))
