"""The compiled memory layer: every token of one head of one row, one after the other (`model.recall`).

A head's matrix stays in the nearer caches while its tokens go by; heads and rows are shared out over the pool. One item
does one head of one row, in one order: its bits depend on no other row and on no division of its tokens into chunks.
The widths of a key and of a value are multiples of 8; `cpu_recall_ops` gives others to the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit, types

from model.gated_delta import APART, L2_EPS
from model.kernels.cpu_rows import norm_row
from model.kernels.cpu_ssm import VECTOR, fetch, put_word, silu_of
from model.kernels.emit import F32, F64, I8, I32, I64, LANES, Emit, Value, routine
from model.kernels.pool import arg, compile_kernel, source_version

NOTHING = 0x3F800000 << 32  # `strengths` of a token that writes nothing: β = 0, α = 1
ONE = 0x3F800000  # 1.0
assert APART == LANES, "channels that are multiplied lie whole vectors apart"
WIDE = 4  # vectors of a value that go through a head's keys side by side
FEW = 8  # floats kept for what stands behind a value in the ring: b, a, and 1


@routine(1, types.int64)
def byte_at(e: Emit, args: Sequence[Value]) -> Value:
    """(address): the byte there."""
    return e.b.zext(e.load(args[0], I8), I64)


@routine(1, types.int64)
def bits_at(e: Emit, args: Sequence[Value]) -> Value:
    """(address): the four bytes there."""
    return e.b.zext(e.load(args[0], I32), I64)


@routine(2)
def put_bits(e: Emit, args: Sequence[Value]) -> None:
    """(address, the four bytes)"""
    e.store(e.b.trunc(args[1], I32), args[0])


@routine(3)
def add_one(e: Emit, args: Sequence[Value]) -> None:
    """(address, address, out): one number and one."""
    one, other, out = args
    e.store(e.b.fadd(e.load(one, F32), e.load(other, F32)), out)


@routine(4)
def add_row(e: Emit, args: Sequence[Value]) -> None:
    """(row, bias or 0, out, vectors)"""
    row, bias, out, vectors = args
    has_bias = e.b.icmp_signed("!=", bias, e.scalar(I64, 0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        place = e.at(out, offset)
        e.store(e.load(e.at(row, offset), e.floats), place)
        with e.b.if_then(has_bias):
            e.store(e.b.fadd(e.load(place, e.floats), e.load(e.at(bias, offset), e.floats)), place)


@routine(2)
def clear_row(e: Emit, args: Sequence[Value]) -> None:
    """(row, vectors)"""
    row, vectors = args
    with e.loop(vectors) as j:
        e.store(e.f(0.0), e.at(row, e.times(j, VECTOR)))


def _exchange(e: Emit, slot: Value, row: Value, count: Value, bfloat16: bool) -> None:
    """`count` vectors at a slot of the ring and in a row change places."""
    with e.loop(count) as j:
        place = e.at(slot, e.times(j, e.lanes * (2 if bfloat16 else 4)))
        own = e.at(row, e.times(j, 4 * e.lanes))
        old, new = e.widen(place, bfloat16), e.load(own, e.floats)
        e.narrow(new, place, bfloat16)
        e.store(old, own)


@routine(4)
def exchange_row(e: Emit, args: Sequence[Value]) -> None:
    """(slot, row, vectors, bytes of a number in the ring): the row goes to the slot, what was there to the row; behind
    the vectors three numbers more."""
    slot, row, vectors, size = args
    one = Emit(e.b, 1)
    with e.b.if_else(e.b.icmp_signed("==", size, e.scalar(I64, 2))) as cases:
        for case, bfloat16 in zip(cases, (True, False), strict=True):
            with case:
                _exchange(e, slot, row, vectors, bfloat16)
                rest = e.times(vectors, e.lanes * (2 if bfloat16 else 4)), e.times(vectors, VECTOR)
                _exchange(one, e.at(slot, rest[0]), e.at(row, rest[1]), e.scalar(I64, 3), bfloat16)


@routine(8)
def convolve(e: Emit, args: Sequence[Value]) -> None:
    """(row, tail, bytes of a row of it, taps, bytes of a tap, rows of the tail, out, vectors): the row's convolution;
    the tail goes on by it."""
    row, tail, tail_row, taps, tap, before, out, vectors = args
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        own = e.at(row, offset)
        e.put(e.f(0.0), total)
        with e.loop(before) as k:
            place = e.at(tail, offset, e.b.mul(k, tail_row))
            x, w = e.load(place, e.floats), e.load(e.at(taps, offset, e.b.mul(k, tap)), e.floats)
            e.put(e.fma(w, x, e.get(total)), total)
            last = e.b.icmp_signed("==", e.at(k, 1), before)
            e.store(e.load(e.b.select(last, own, e.at(place, tail_row)), e.floats), place)
        w = e.load(e.at(taps, offset, e.b.mul(before, tap)), e.floats)
        e.store(e.fma(w, e.load(own, e.floats), e.get(total)), e.at(out, offset))


@routine(3)
def multiply_row(e: Emit, args: Sequence[Value]) -> None:
    """(row, vectors, factors − 1): each vector times so many of those after it, going round; behind the row so many
    vectors are overwritten."""
    row, vectors, others = args
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(others) as j:
        offset = e.times(j, VECTOR)
        e.store(e.load(e.at(row, offset), e.floats), e.at(row, e.times(vectors, VECTOR), offset))
    with e.loop(vectors) as j:
        place = e.at(row, e.times(j, VECTOR))
        e.put(e.load(place, e.floats), total)
        with e.loop(others) as i:
            after = e.load(e.at(place, VECTOR, e.times(i, VECTOR)), e.floats)
            e.put(e.b.fmul(e.get(total), after), total)
        e.store(e.get(total), place)


@routine(2)
def unit_row(e: Emit, args: Sequence[Value]) -> None:
    """(row, vectors): row ← row/√(Σ row² + ε)."""
    row, vectors = args
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(vectors) as j:
        x = e.load(e.at(row, e.times(j, VECTOR)), e.floats)
        e.put(e.fma(x, x, e.get(total)), total)
    root = e.call("llvm.sqrt.f32", F32, e.b.fadd(e.reduce(e.get(total), e.b.fadd), e.scalar(F32, L2_EPS)))
    scale = e.splat(e.b.fdiv(e.scalar(F32, 1.0), root))
    with e.loop(vectors) as j:
        place = e.at(row, e.times(j, VECTOR))
        e.store(e.b.fmul(scale, e.load(place, e.floats)), place)


@routine(4)
def gate_row(e: Emit, args: Sequence[Value]) -> None:
    """(gate, its bias, row, vectors): row ← silu(gate + bias)·row."""
    gate, bias, row, vectors = args
    by = silu_of(e, e.splat(e.b.fadd(e.load(gate, F32), e.load(bias, F32))))
    with e.loop(vectors) as j:
        place = e.at(row, e.times(j, VECTOR))
        e.store(e.b.fmul(by, e.load(place, e.floats)), place)


@routine(3, types.int64)
def strengths(e: Emit, args: Sequence[Value]) -> Value:
    """(address of b, of a or 0, of the rate): β = sigmoid(b) in the low half, α = e^(−softplus(a)·rate) in the high."""
    b, a, rate = args
    one = e.f(1.0)
    beta = e.b.fdiv(one, e.b.fadd(one, e.exp(e.b.fneg(e.splat(e.load(b, F32))))))
    (alpha,) = e.variables(1, one)
    with e.b.if_then(e.b.icmp_signed("!=", a, e.scalar(I64, 0))):
        x = e.load(a, F32)
        size = e.call("llvm.fabs.f32", F32, x)
        small = e.b.extract_element(e.exp(e.splat(e.b.fneg(size))), e.scalar(I32, 0))
        log = e.call("llvm.log.f64", F64, e.b.fadd(e.scalar(F64, 1.0), e.b.fpext(small, F64)))
        # softplus(a) = max(a, 0) + ln(1 + e^−|a|)
        softplus = e.b.fadd(e.b.fmul(e.scalar(F32, 0.5), e.b.fadd(x, size)), e.b.fptrunc(log, F32))
        e.put(e.exp(e.splat(e.b.fneg(e.b.fmul(softplus, e.load(rate, F32))))), alpha)
    low, high = (
        e.b.zext(e.b.bitcast(e.b.extract_element(v, e.scalar(I32, 0)), I32), I64) for v in (beta, e.get(alpha))
    )
    return e.b.or_(low, e.b.shl(high, e.scalar(I64, 32)))


def _delta(wide: int) -> Any:
    """(M, d_k, bytes of M's rows, q, k, v, out, `strengths`, whether to write): a token, `wide` vectors of a value."""

    @routine(9)
    def delta(e: Emit, args: Sequence[Value]) -> None:
        M, keys, row, q, k, v, out, bits, writes = args
        beta = e.splat(e.b.bitcast(e.b.trunc(bits, I32), F32))
        alpha = e.splat(e.b.bitcast(e.b.trunc(e.b.lshr(bits, e.scalar(I64, 32)), I32), F32))
        held, read = e.variables(wide, e.f(0.0)), e.variables(wide, e.f(0.0))

        def number(base: Value, i: Value) -> Value:
            return e.splat(e.load(e.at(base, e.times(i, 4)), F32))

        with e.b.if_else(e.b.icmp_signed("!=", writes, e.scalar(I64, 0))) as (writing, reading):
            with writing:
                with e.loop(keys) as i:
                    at, key = e.at(M, e.b.mul(i, row)), number(k, i)
                    for n in range(wide):
                        m = e.b.fmul(alpha, e.load(e.at(at, n * VECTOR), e.floats))
                        e.put(e.fma(key, m, e.get(held[n])), held[n])
                for n in range(wide):  # what is written
                    value = e.load(e.at(v, n * VECTOR), e.floats)
                    e.put(e.b.fmul(beta, e.b.fsub(value, e.get(held[n]))), held[n])
                with e.loop(keys) as i:
                    at, key, query = e.at(M, e.b.mul(i, row)), number(k, i), number(q, i)
                    for n in range(wide):
                        place = e.at(at, n * VECTOR)
                        m = e.fma(key, e.get(held[n]), e.b.fmul(alpha, e.load(place, e.floats)))
                        e.store(m, place)
                        e.put(e.fma(query, m, e.get(read[n])), read[n])
            with reading, e.loop(keys) as i:
                at, query = e.at(M, e.b.mul(i, row)), number(q, i)
                for n in range(wide):
                    e.put(e.fma(query, e.load(e.at(at, n * VECTOR), e.floats), e.get(read[n])), read[n])
        for n in range(wide):
            e.store(e.get(read[n]), e.at(out, n * VECTOR))

    return delta


delta_wide, delta_one = _delta(WIDE), _delta(1)


@njit(error_model="numpy")
def recall_head(args: int, item: int) -> None:
    """args: address of these words: x, bytes of its rows, v, bytes of its rows, bias, v's bias or 0, out, taps, rows of
    a tail, dt_bias or 0, rate, norm or 0, (eps, d_v) bits, whether gated; the addresses of M, the tails of q, k and v,
    waiting or 0, writes and frozen, and bytes between the rows of each; W, bytes of a number of waiting, place,
    lengths, T, h, d_k, d_v, scratch (4·(3·d_k + 2·d_v + FEW) bytes per item), degree."""
    w = arg(args, 0)
    x_row, v_row, bias, taps, before = arg(w, 1), arg(w, 3), arg(w, 4), arg(w, 7), arg(w, 8)
    dt_bias, rate, norm, ring_size = arg(w, 9), arg(w, 10), arg(w, 11), arg(w, 29)
    W, T, h, d_k, d_v, factors = arg(w, 28), arg(w, 32), arg(w, 33), arg(w, 34), arg(w, 35), arg(w, 37) - 1
    row, head = item // h, item % h
    keys, values, width = d_k // LANES, d_v // LANES, d_k + d_v + 3
    own_k, own_v, row_k, row_v = 4 * head * d_k, 4 * head * d_v, 4 * h * d_k, 4 * h * d_v
    tap = 2 * row_k + row_v
    b_at = (2 * row_k if arg(w, 5) == 0 else tap) + 4 * head
    a_at = b_at + 4 * h
    gate_at = a_at + 4 * h if dt_bias else a_at

    M = arg(w, 14) + row * arg(w, 15) + head * d_k * 4 * d_v
    tail_q, tail_k = arg(w, 16) + row * arg(w, 17) + own_k, arg(w, 18) + row * arg(w, 19) + own_k
    tail_v = arg(w, 20) + row * arg(w, 21) + own_v
    ring = arg(w, 22) + row * arg(w, 23) + head * W * width * ring_size if arg(w, 22) else 0
    thawed = byte_at(arg(w, 26) + row * arg(w, 27)) == 0
    place = arg(arg(w, 30), row)
    key = arg(w, 36) + 4 * item * (3 * d_k + 2 * d_v + FEW)
    value = key + 4 * d_k
    few = value + 4 * d_v
    q, k, v = few + 4 * FEW, few + 4 * (FEW + d_k), few + 4 * (FEW + 2 * d_k)
    fetch(M, d_k * 4 * d_v, 0)
    written = 0
    for t in range(arg(arg(w, 31), row)):
        n = row * T + t
        x, out = arg(w, 0) + n * x_row, arg(w, 6) + n * row_v + own_v
        # What is to be written: key, value, b, a and 1, as they stand in the ring.
        add_row(x + row_k + own_k, bias + row_k + own_k, key, keys)
        add_row(arg(w, 2) + n * v_row + own_v, arg(w, 5) + own_v if arg(w, 5) else 0, value, values)
        add_one(x + b_at, bias + b_at, few)
        put_bits(few + 4, 0)
        if dt_bias:
            add_one(x + a_at, bias + a_at, few + 4)
        put_bits(few + 8, ONE)
        if ring:
            exchange_row(ring + (place + t) % W * width * ring_size, key, (d_k + d_v) // LANES, ring_size)
        writes = thawed and bits_at(few + 8) != 0
        bits = NOTHING
        if writes:
            if dt_bias:
                add_one(few + 4, dt_bias + 4 * head, few + 4)
            bits = strengths(few, few + 4 if dt_bias else 0, rate + 4 * head)
            written += 1
        add_row(x + own_k, bias + own_k, q, keys)
        convolve(q, tail_q, row_k, taps + own_k, tap, before, q, keys)
        if factors:  # what comes behind q and k is made after them
            multiply_row(q, keys, factors)
        convolve(key, tail_k, row_k, taps + row_k + own_k, tap, before, k, keys)
        if factors:
            multiply_row(k, keys, factors)
        convolve(value, tail_v, row_v, taps + 2 * row_k + own_v, tap, before, v, values)
        unit_row(q, keys)
        unit_row(k, keys)
        j = 0
        while j + WIDE <= values:
            delta_wide(M + j * VECTOR, d_k, 4 * d_v, q, k, v + j * VECTOR, out + j * VECTOR, bits, writes)
            j += WIDE
        while j < values:
            delta_one(M + j * VECTOR, d_k, 4 * d_v, q, k, v + j * VECTOR, out + j * VECTOR, bits, writes)
            j += 1
        if norm:
            norm_row(out, 0, norm, out, values, arg(w, 12))
        if arg(w, 13):
            gate_row(x + gate_at, bias + gate_at, out, values)
    for t in range(arg(arg(w, 31), row), T):
        clear_row(arg(w, 6) + (row * T + t) * row_v + own_v, values)
    if head == 0:  # for all of them
        count = arg(w, 24) + row * arg(w, 25)
        put_word(count, arg(count, 0) + written)


@cache
def recall_kernel() -> int:
    """Compile it, or load it from the cache; its address for `Pool.run`."""
    digest = hashlib.sha256(str(L2_EPS).encode())
    for name in ("cpu_ssm.py", "cpu_recall.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    version = source_version() ^ int.from_bytes(digest.digest()[:6], "little")

    def recall(args: int, item: int) -> None:
        if version:
            recall_head(args, item)

    return compile_kernel(recall)
