"""The compiled gated delta rule: every token of one head of one row, one after the other.

A head's matrix stays in the first cache while its tokens go by; heads and rows are shared out over the pool. One item
does one head of one row, in one order: its bits depend on no other row and on no division of its tokens into chunks.
The width of a value must be a multiple of 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from numba import njit, types

from model.kernels.emit import F32, F64, I32, I64, Emit, Value, routine
from model.kernels.pool import arg, compile_kernel, source_version

NOTHING = 0x3F800000 << 32  # `strengths` of a token that writes nothing: β = 0, α = 1


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


@routine(9)
def delta_token(e: Emit, args: Sequence[Value]) -> None:
    """(M, d_k, vectors of a value, q, k, v, out, `strengths`, whether to write): one token of one head."""
    M, keys, vectors, q, k, v, out, bits, writes = args
    beta = e.splat(e.b.bitcast(e.b.trunc(bits, I32), F32))
    alpha = e.splat(e.b.bitcast(e.b.trunc(e.b.lshr(bits, e.scalar(I64, 32)), I32), F32))
    row = e.times(vectors, 4 * e.lanes)
    write = e.b.icmp_signed("!=", writes, e.scalar(I64, 0))
    with e.loop(vectors) as j:
        offset = e.times(j, 4 * e.lanes)
        column = e.at(M, offset)
        held, read = e.variables(2, e.f(0.0))
        with e.loop(keys) as i:
            m = e.b.fmul(alpha, e.load(e.at(column, e.b.mul(i, row)), e.floats))
            e.put(e.fma(e.splat(e.load(e.at(k, e.times(i, 4)), F32)), m, e.get(held)), held)
        u = e.b.fmul(beta, e.b.fsub(e.load(e.at(v, offset), e.floats), e.get(held)))
        with e.loop(keys) as i:
            at = e.at(column, e.b.mul(i, row))
            m = e.b.fmul(alpha, e.load(at, e.floats))
            m = e.fma(e.splat(e.load(e.at(k, e.times(i, 4)), F32)), u, m)
            with e.b.if_then(write):
                e.store(m, at)
            e.put(e.fma(e.splat(e.load(e.at(q, e.times(i, 4)), F32)), m, e.get(read)), read)
        e.store(e.get(read), e.at(out, offset))


@njit(error_model="numpy")
def delta_head(args: int, item: int) -> None:
    """args: address of these words: q, k, v, out, b, a or 0, rate, M, bytes between M's rows, lengths, writes, T, h,
    d_k, d_v."""
    words = arg(args, 0)
    q, k, v, out, b, a = arg(words, 0), arg(words, 1), arg(words, 2), arg(words, 3), arg(words, 4), arg(words, 5)
    rate, M, apart, lengths, writes = arg(words, 6), arg(words, 7), arg(words, 8), arg(words, 9), arg(words, 10)
    T, h, d_k, d_v = arg(words, 11), arg(words, 12), arg(words, 13), arg(words, 14)
    row, head = item // h, item % h
    m, write = M + row * apart + 4 * head * d_k * d_v, arg(writes, row)
    for t in range(arg(lengths, row)):
        at = 4 * ((row * T + t) * h + head)
        bits = strengths(b + at, a + at if a else 0, rate + 4 * head) if write else NOTHING
        delta_token(m, d_k, d_v // 8, q + at * d_k, k + at * d_k, v + at * d_v, out + at * d_v, bits, write)


@cache
def delta_kernel() -> int:
    """Compile it, or load it from the cache; its address for `Pool.run`."""
    own = hashlib.sha256(Path(__file__).read_bytes()).digest()
    version = source_version() ^ int.from_bytes(own[:6], "little")

    def delta(args: int, item: int) -> None:
        if version:
            delta_head(args, item)

    return compile_kernel(delta)
