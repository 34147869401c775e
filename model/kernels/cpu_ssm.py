"""Compiled kernels of the state space models: a convolution, and recurrences that go from token to token.

Channels (Mamba) or the columns of a head (Mamba-2) are shared out over the pool; a part's state stays in the first
cache while all its tokens go by, so a chunk of any length needs nothing but its inputs and outputs. One item does its
tokens in order, whatever shares the batch: its bits depend on no other row and on no division of the tokens.

Widths are multiples of 8; `cpu_ssm_ops` gives others to the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from numba import njit

from model.kernels.emit import F32, I32, I64, LANES, LOG2E, ROUND, Emit, Value, routine, vec
from model.kernels.pool import arg, compile_kernel, source_version

BLOCK = 2 * LANES  # channels of an item: a cache line
VECTOR = 4 * LANES  # bytes of a vector
TINY = -125.0  # 2^x is not taken below: the smallest normal float is 2^−126


def _exp2(e: Emit, x: Value) -> Value:
    """2^x for x ≤ 0 within 2 units in the last place; 2^−125 below −125, which is as good as 0 to what it multiplies.

    x = n + r with |r| ≤ ½ exactly, so 2^x = 2^n·2^r; 2^r by its Taylor polynomial to r^7.
    """
    x = e.greater(x, e.f(TINY))
    shifted = e.b.fadd(x, e.f(ROUND))
    r = e.b.fsub(x, e.b.fsub(shifted, e.f(ROUND)))
    p = e.f(1.5252733804059841e-05)
    for c in (0.00015403530393381608, 0.0013333558146428443, 0.009618129107628477):
        p = e.fma(p, r, e.f(c))
    for c in (0.05550410866482158, 0.2402265069591007, 0.6931471805599453, 1.0):
        p = e.fma(p, r, e.f(c))
    exponent = e.b.shl(e.b.bitcast(shifted, vec(I32, e.lanes)), e.constant(I32, e.lanes, 23))
    return e.b.bitcast(e.b.add(e.b.bitcast(p, vec(I32, e.lanes)), exponent), e.floats)


def _softplus(e: Emit, x: Value) -> Value:
    """ln(1 + e^x) within some units in the last place; NaN gives NaN.

    max(x, 0) + ln(1 + u) with u = e^−|x| ≤ 1; ln(1 + u) = 2·artanh(s), s = u/(2+u) ≤ 1/3, by its series to s^15.
    """
    positive = e.b.select(e.b.fcmp_ordered("<", x, e.f(0.0)), e.f(0.0), x)
    size = e.b.fsub(e.b.fadd(positive, positive), x)
    u = e.exp(e.b.fneg(size))
    s = e.b.fdiv(u, e.b.fadd(u, e.f(2.0)))
    square = e.b.fmul(s, s)
    p = e.f(2.0 / 15)
    for k in (13, 11, 9, 7, 5, 3, 1):
        p = e.fma(p, square, e.f(2.0 / k))
    return e.fma(p, s, positive)


def _silu(e: Emit, x: Value) -> Value:
    return e.b.fdiv(x, e.b.fadd(e.f(1.0), e.exp(e.b.fneg(x))))


@routine(7)
def conv_token(e: Emit, args: Sequence[Value]) -> None:
    """(addresses of the inputs, oldest first, at `inputs`; K, taps, bytes of a tap, bias or 0, out, vectors)"""
    inputs, K, taps, tap, bias, out, vectors = args
    has_bias = e.b.icmp_signed("!=", bias, e.scalar(I64, 0))
    (total,) = e.variables(1, e.f(0.0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        e.put(e.f(0.0), total)
        with e.b.if_then(has_bias):
            e.put(e.load(e.at(bias, offset), e.floats), total)
        with e.loop(K) as k:
            w = e.load(e.at(taps, e.b.mul(k, tap), offset), e.floats)
            x = e.load(e.at(e.load(e.at(inputs, e.times(k, 8)), I64), offset), e.floats)
            e.put(e.fma(w, x, e.get(total)), total)
        e.store(_silu(e, e.get(total)), e.at(out, offset))


@routine(2)
def put_word(e: Emit, args: Sequence[Value]) -> None:
    """(address, int64)"""
    e.store(args[1], args[0])


@routine(3)
def copy_floats(e: Emit, args: Sequence[Value]) -> None:
    """(from, to, vectors)"""
    source, target, vectors = args
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        e.store(e.load(e.at(source, offset), e.floats), e.at(target, offset))


@njit(error_model="numpy")
def conv_rows(args: int, item: int) -> None:
    """args: address of these words: x, bytes between its rows, taps, bias or 0, out, state, bytes between its rows,
    lengths, T, K, C, tokens per item, items per row, scratch (8·K bytes per item)."""
    w = arg(args, 0)
    x, apart, taps, bias, out = arg(w, 0), arg(w, 1), arg(w, 2), arg(w, 3), arg(w, 4)
    T, K, C, step, per_row = arg(w, 8), arg(w, 9), arg(w, 10), arg(w, 11), arg(w, 12)
    row, part = item // per_row, item % per_row
    state, inputs = arg(w, 5) + row * arg(w, 6), arg(w, 13) + 8 * K * item
    for t in range(part * step, min(arg(arg(w, 7), row), (part + 1) * step)):
        for k in range(K):
            at = t - (K - 1) + k
            place = x + (row * T + at) * apart if at >= 0 else state + 4 * C * (K - 1 + at)
            put_word(inputs + 8 * k, place)
        conv_token(inputs, K, taps, 4 * C, bias, out + 4 * C * (row * T + t), C // LANES)


@njit(error_model="numpy")
def conv_tails(args: int, row: int) -> None:
    """args: as `conv_rows`: each row's last inputs become its state."""
    w = arg(args, 0)
    x, apart, n, T, K, C = arg(w, 0), arg(w, 1), arg(arg(w, 7), row), arg(w, 8), arg(w, 9), arg(w, 10)
    state = arg(w, 5) + row * arg(w, 6)
    if n > 0:
        for k in range(K - 1):  # upwards: what is still to be moved down lies above
            at = n - (K - 1) + k
            place = x + (row * T + at) * apart if at >= 0 else state + 4 * C * (K - 1 + at)
            copy_floats(place, state + 4 * C * k, C // LANES)


@routine(11)
def scan_token(e: Emit, args: Sequence[Value]) -> None:
    """(x, dt, z or 0, B, C, out, h, A, D and dt_bias at `fixed`, N, bytes of a row of h and A): LANES channels.

    fixed: address of two words, the addresses of D and dt_bias, which like the others are those of these channels.
    """
    x_at, dt_at, z_at, B, C, out, h_at, A_at, fixed, N, row = args
    D, bias = (e.load(e.at(fixed, 8 * i), I64) for i in range(2))
    x = e.load(x_at, e.floats)
    delta = _softplus(e, e.b.fadd(e.load(dt_at, e.floats), e.load(bias, e.floats)))
    exponent, written = e.b.fmul(delta, e.f(LOG2E)), e.b.fmul(delta, x)
    (y,) = e.variables(1, e.f(0.0))
    with e.loop(N) as n:
        offset, number = e.b.mul(n, row), e.times(n, 4)
        decay = _exp2(e, e.b.fmul(exponent, e.load(e.at(A_at, offset), e.floats)))
        h = e.b.fmul(decay, e.load(e.at(h_at, offset), e.floats))
        h = e.fma(e.splat(e.load(e.at(B, number), F32)), written, h)
        e.store(h, e.at(h_at, offset))
        e.put(e.fma(e.splat(e.load(e.at(C, number), F32)), h, e.get(y)), y)
    e.put(e.fma(e.load(D, e.floats), x, e.get(y)), y)
    with e.b.if_then(e.b.icmp_signed("!=", z_at, e.scalar(I64, 0))):
        e.put(e.b.fmul(e.get(y), _silu(e, e.load(z_at, e.floats))), y)
    e.store(e.get(y), out)


@njit(error_model="numpy")
def scan_block(args: int, item: int) -> None:
    """args: address of these words: x, dt, z or 0, B, C, bytes between the rows of each of these five, out, state,
    bytes between its rows, A, D, dt_bias, lengths, T, d, N, scratch (32 bytes per item)."""
    w = arg(args, 0)
    lengths, T, d, N = arg(w, 16), arg(w, 17), arg(w, 18), arg(w, 19)
    blocks = (d + BLOCK - 1) // BLOCK
    row, first = item // blocks, item % blocks * BLOCK
    for t in range(arg(lengths, row)):
        at = row * T + t
        B, C = arg(w, 3) + at * arg(w, 8), arg(w, 4) + at * arg(w, 9)
        for c in range(first, min(d, first + BLOCK), LANES):
            fixed = arg(w, 20) + 32 * item + 2 * (c - first)
            put_word(fixed, arg(w, 14) + 4 * c)
            put_word(fixed + 8, arg(w, 15) + 4 * c)
            z = arg(w, 2) + at * arg(w, 7) + 4 * c if arg(w, 2) else 0
            scan_token(
                arg(w, 0) + at * arg(w, 5) + 4 * c,
                arg(w, 1) + at * arg(w, 6) + 4 * c,
                z,
                B,
                C,
                arg(w, 10) + 4 * (at * d + c),
                arg(w, 11) + row * arg(w, 12) + 4 * c,
                arg(w, 13) + 4 * c,
                fixed,
                N,
                4 * d,
            )


class SsmKernels(NamedTuple):
    """Addresses for `Pool.run`."""

    conv: int
    tails: int
    scan: int


@cache
def ssm_kernels() -> SsmKernels:
    """Compile them, or load them from the cache."""
    own = hashlib.sha256(Path(__file__).read_bytes()).digest()
    version = source_version() ^ int.from_bytes(own[:6], "little")

    def conv(args: int, item: int) -> None:
        if version:
            conv_rows(args, item)

    def tails(args: int, item: int) -> None:
        if version:
            conv_tails(args, item)

    def scan(args: int, item: int) -> None:
        if version:
            scan_block(args, item)

    return SsmKernels(*(compile_kernel(entry) for entry in (conv, tails, scan)))
