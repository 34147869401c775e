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

BLOCK = 8 * LANES  # channels of an item
AHEAD = 4  # tokens whose inputs are asked for in advance: each lies on pages of its own
MANY = 4  # tokens from which it pays to copy a block's state together, out of the way of other rows' cache lines
VECTOR = 4 * LANES  # bytes of a vector
TINY = -125.0  # 2^x is not taken below: the smallest normal float is 2^−126


def exp2_of(e: Emit, x: Value) -> Value:
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


def softplus_of(e: Emit, x: Value) -> Value:
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


def silu_of(e: Emit, x: Value) -> Value:
    """x / (1 + e^−x)."""
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
        e.store(silu_of(e, e.get(total)), e.at(out, offset))


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


@routine(3)
def fetch(e: Emit, args: Sequence[Value]) -> None:
    """(address, bytes, offset): ask for the lines at address + offset; they need not exist."""
    address, size, offset = args
    with e.loop(e.b.udiv(e.at(size, 63), e.scalar(I64, 64))) as i:
        e.prefetch(e.at(address, offset, e.times(i, 64)))


@routine(6)
def scan_steps(e: Emit, args: Sequence[Value]) -> None:
    """(x, dt, dt_bias, steps, bytes of a row of steps, vectors): of each channel Δ·log2 e and, a row on, Δ·x."""
    x_at, dt_at, bias, steps, row, vectors = args
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        delta = softplus_of(e, e.b.fadd(e.load(e.at(dt_at, offset), e.floats), e.load(e.at(bias, offset), e.floats)))
        e.store(e.b.fmul(delta, e.f(LOG2E)), e.at(steps, offset))
        e.store(e.b.fmul(delta, e.load(e.at(x_at, offset), e.floats)), e.at(steps, offset, row))


@routine(11)
def scan_token(e: Emit, args: Sequence[Value]) -> None:
    """(steps, bytes of a row of steps, B, C, h, bytes of its rows, A, bytes of its rows, N, out, vectors): one token's
    h, and C·h to out."""
    steps, row, B, C, h_at, h_row, A_at, A_row, N, out, vectors = args
    (y,) = e.variables(1, e.f(0.0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        exponent, written = e.load(e.at(steps, offset), e.floats), e.load(e.at(steps, offset, row), e.floats)
        e.put(e.f(0.0), y)
        with e.loop(N) as n:
            place, number = e.at(h_at, offset, e.b.mul(n, h_row)), e.times(n, 4)
            decay = exp2_of(e, e.b.fmul(exponent, e.load(e.at(A_at, offset, e.b.mul(n, A_row)), e.floats)))
            h = e.b.fmul(decay, e.load(place, e.floats))
            h = e.fma(e.splat(e.load(e.at(B, number), F32)), written, h)
            e.store(h, place)
            e.put(e.fma(e.splat(e.load(e.at(C, number), F32)), h, e.get(y)), y)
        e.store(e.get(y), e.at(out, offset))


@routine(5)
def scan_gate(e: Emit, args: Sequence[Value]) -> None:
    """(x, D, z or 0, out, vectors): out ← (out + D·x)·silu(z)."""
    x_at, D, z_at, out, vectors = args
    gated = e.b.icmp_signed("!=", z_at, e.scalar(I64, 0))
    with e.loop(vectors) as j:
        offset = e.times(j, VECTOR)
        place = e.at(out, offset)
        y = e.load(place, e.floats)
        e.store(e.fma(e.load(e.at(D, offset), e.floats), e.load(e.at(x_at, offset), e.floats), y), place)
        with e.b.if_then(gated):
            z = e.load(e.at(z_at, offset), e.floats)
            e.store(e.b.fmul(e.load(place, e.floats), silu_of(e, z)), place)


@njit(error_model="numpy")
def scan_block(args: int, item: int) -> None:
    """args: address of these words: x, dt, z or 0, B, C, bytes between the rows of each of these five, out, state,
    bytes between its rows, A, D, dt_bias, lengths, T, d, N, scratch (4·(2+2·N)·BLOCK bytes per item)."""
    w = arg(args, 0)
    x, dt, z, B, C = arg(w, 0), arg(w, 1), arg(w, 2), arg(w, 3), arg(w, 4)
    x_row, dt_row, z_row, B_row, C_row = arg(w, 5), arg(w, 6), arg(w, 7), arg(w, 8), arg(w, 9)
    T, d, N = arg(w, 17), arg(w, 18), arg(w, 19)
    blocks = (d + BLOCK - 1) // BLOCK
    row, first = item // blocks, item % blocks * BLOCK
    D, bias = arg(w, 14) + 4 * first, arg(w, 15) + 4 * first
    length, vectors = arg(arg(w, 16), row), min(BLOCK, d - first) // LANES
    held, A = arg(w, 11) + row * arg(w, 12) + 4 * first, arg(w, 13) + 4 * first
    h, h_row, A_row, step_row = held, 4 * d, 4 * d, 4 * BLOCK
    steps = arg(w, 20) + (2 + 2 * N) * step_row * item
    if length >= MANY:
        h, h_row, A_row = steps + 2 * step_row, step_row, step_row
        for n in range(N):
            copy_floats(held + 4 * d * n, h + h_row * n, vectors)
            copy_floats(A + 4 * d * n, h + h_row * (N + n), vectors)
        A = h + h_row * N
    for t in range(length):
        at = row * T + t
        x_at, dt_at, z_at = x + at * x_row + 4 * first, dt + at * dt_row + 4 * first, 0
        fetch(x_at, VECTOR * vectors, AHEAD * x_row)
        fetch(dt_at, VECTOR * vectors, AHEAD * dt_row)
        if z:
            z_at = z + at * z_row + 4 * first
            fetch(z_at, VECTOR * vectors, AHEAD * z_row)
        out = arg(w, 10) + 4 * (at * d + first)
        scan_steps(x_at, dt_at, bias, steps, step_row, vectors)
        scan_token(steps, step_row, B + at * B_row, C + at * C_row, h, h_row, A, A_row, N, out, vectors)
        scan_gate(x_at, D, z_at, out, vectors)
    if h != held:
        for n in range(N):
            copy_floats(h + h_row * n, held + 4 * d * n, vectors)


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
