"""Windowed attention of the cpu backend: RoPE, ring and sink writes and attention, compiled.

Each (row, kv head) does its H/G query heads together, so keys and values are read once. The slots of the ring are taken
in blocks of `BLOCK` in slot order; each block gives per query its maximum m, l = Σ e^(s−m) and o = Σ e^(s−m)·v, and
blocks are combined in order (Dao 2022, arXiv 2205.14135, §3.1), the sinks last.

A single token goes straight to the ring and its blocks are shared out to the threads. A chunk first lays old window and
new keys out by position, in copies that keep position ≡ slot (mod W), so that a token's window is at most two runs of
slots; its tokens are then shared out, and at the end the ring gets the last W of them.

Invariant: a token's result is bit-identical for any number of rows, threads, and any cut into chunks, since its slots
are always taken in the same order and every product is summed in the same order. Head widths are multiples of 16.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import njit

from model.kernels import cpu_attention_loops as loops
from model.kernels.emit import LANES
from model.kernels.pool import arg, compile_kernel, compiled, source_version

BLOCK = 128  # slots: with D = 64 in bfloat16, its keys and values fill an L1 cache
TOGETHER = 4  # query heads of one kv head that share a pass over a block

# What a kernel finds at `args`, and, at the address WORDS there, what `Rope` says.
QKV, OUT, RING_K, RING_V, SINK_K, SINK_V, RING_ROW, SINK_ROW, WORDS, SCRATCH = range(10)
POSITION, LENGTHS, COS, SIN, QUERY_COS, QUERY_SIN, SINK_COS, SINK_SIN = range(8)
ROWS, CHUNK, HEADS, KV_HEADS, WIDTH, WINDOW, SINKS, SCALE, ONE, STEP = range(8, 18)


def layout(T: int, H: int, G: int, D: int, W: int, sinks: int, itemsize: int) -> tuple[int, int, int]:
    """Bytes in the scratch: of one row's one kv head's keys by position (a chunk only), of one's partials, and of an
    item's own area: queries, re-based queries, rotated sinks, scores, partials."""
    queries, blocks = H // G, (W + BLOCK - 1) // BLOCK
    history = (2 * W + T) * D * itemsize if T > 1 else 0
    partials = (blocks + 1) * queries * 4 * (LANES + D)
    scores = TOGETHER * 4 * (max(BLOCK, sinks) + 2 * LANES)
    area = 2 * queries * 4 * D + sinks * 4 * D + scores + partials
    return (history + 63) // 64 * 64, (partials + 63) // 64 * 64, (area + 63) // 64 * 64


layout_ = njit(error_model="numpy")(layout)
rotate_f32, rotate_bf16 = loops.rotate(bfloat16=False), loops.rotate(bfloat16=True)


def _block(bf16_keys: bool, bf16_values: bool, most: int) -> Any:
    """A block's partial results, for all query heads of one kv head, `most` of them (1 or 4) in one pass."""
    scores_1, scores_3, scores_4 = (loops.scores(r, bf16_keys) for r in (1, 3, 4))
    weighted_1, weighted_3, weighted_4 = (loops.weighted(r, 2, bf16_values) for r in (1, 3, 4))

    @compiled(f"block_{bf16_keys}_{bf16_values}_{most}")
    def block(
        q: int, keys: int, values: int, count: int, more_keys: int, more_values: int, more: int,
        queries: int, vectors: int, scores: int, partial: int,
    ) -> None:  # fmt: skip
        """Keys and values come in two runs of `count` and `more`; `partial` is (queries, LANES + D): m, l, …, o."""
        row = 4 * LANES * (1 + vectors)
        score_row = (count + more + 2 * LANES) * 4
        head, runs = 0, 2 if more > 0 else 1
        while head < queries:
            together = min(most, queries - head) if queries - head > 2 else 1
            first, p = q + head * 4 * LANES * vectors, partial + head * row
            for run in range(runs):
                k, v, n = (keys, values, count) if run == 0 else (more_keys, more_values, more)
                out = scores if run == 0 else scores + 4 * count
                if n > 0:
                    if most == 1 or together == 1:
                        scores_1(first, k, out, vectors, n, score_row, v)
                    elif together == 3:
                        scores_3(first, k, out, vectors, n, score_row, v)
                    else:
                        scores_4(first, k, out, vectors, n, score_row, v)
            for j in range(together):
                loops.exponentials(scores + j * score_row, count + more, p + j * row)
                loops.zeros(p + j * row + 4 * LANES, vectors, 0)
            o = p + 4 * LANES
            for run in range(runs):
                v, n = (values, count) if run == 0 else (more_values, more)
                weights = scores if run == 0 else scores + 4 * count
                if n > 0:
                    if most == 1 or together == 1:
                        weighted_1(weights, v, o, vectors, n, score_row, row)
                    elif together == 3:
                        weighted_3(weights, v, o, vectors, n, score_row, row)
                    else:
                        weighted_4(weights, v, o, vectors, n, score_row, row)
            head += together

    return block


def _kernels(bfloat16: bool) -> tuple[Any, Any, Any]:
    """The three phases, for one state dtype: prepare, attend, finish."""
    size = 2 if bfloat16 else 4
    store = rotate_bf16 if bfloat16 else rotate_f32
    narrow, widen = loops.convert(False, bfloat16), loops.convert(bfloat16, False)
    window_block, sink_block = _block(bfloat16, bfloat16, TOGETHER), _block(False, bfloat16, 1)

    @compiled(f"prepare_{size}")
    def prepare(args: int, item: int) -> None:
        """Item (b, g): keys and values to where attend reads them, sinks to the state, zeros for padded tokens."""
        words, scratch = arg(args, WORDS), arg(args, SCRATCH)
        B, T, H, G = arg(words, ROWS), arg(words, CHUNK), arg(words, HEADS), arg(words, KV_HEADS)
        D, W, sinks, one = arg(words, WIDTH), arg(words, WINDOW), arg(words, SINKS), arg(words, ONE)
        b, g = item // G, item % G
        n, p0 = arg(arg(words, LENGTHS), b), arg(arg(words, POSITION), b)
        queries = H // G
        for t in range(n, T):
            loops.zeros(arg(args, OUT) + 4 * ((b * T + t) * H + g * queries) * D, queries * D // LANES, 0)
        if n == 0:
            return
        slot = p0 % W
        ring = b * arg(args, RING_ROW) + g * W * D * size
        ring_k, ring_v = arg(args, RING_K) + ring, arg(args, RING_V) + ring
        if T == 1:
            k, v = ring_k + slot * D * size, ring_v + slot * D * size
        else:
            history, _, _ = layout_(T, H, G, D, W, sinks, size)
            old_k, old_v = scratch + item * history, scratch + (B * G + item) * history
            row = D * size // (4 * LANES)  # vectors of a row
            # Positions from p0 − slot on, then, where there is a whole window before, those from p0 − W on.
            loops.copy(ring_k, old_k + W * D * size, slot * row)
            loops.copy(ring_v, old_v + W * D * size, slot * row)
            if p0 >= W:
                loops.copy(ring_k + slot * D * size, old_k + slot * D * size, (W - slot) * row)
                loops.copy(ring_v + slot * D * size, old_v + slot * D * size, (W - slot) * row)
            k, v = old_k + (W + slot) * D * size, old_v + (W + slot) * D * size
        for t in range(n):
            x = arg(args, QKV) + 4 * (b * T + t) * (H + 2 * G) * D
            x_k, x_v = x + 4 * (H + g) * D, x + 4 * (H + G + g) * D
            angles = 4 * (b * T + t) * (D // 2)
            store(x_k, arg(words, COS) + angles, arg(words, SIN) + angles, k + t * D * size, D // (2 * LANES), one)
            narrow(x_v, v + t * D * size, D // LANES)
            if p0 + t < sinks:
                place = b * arg(args, SINK_ROW) + (g * sinks + p0 + t) * D * size
                narrow(x_k, arg(args, SINK_K) + place, D // LANES)
                narrow(x_v, arg(args, SINK_V) + place, D // LANES)

    @compiled(f"sinks_and_sum_{size}")
    def sinks_and_sum(args: int, b: int, g: int, t: int, area: int, partials: int, blocks: int) -> None:
        """Add the sinks to a token's partials, and write what they all come to."""
        words = arg(args, WORDS)
        T, H, G, D = arg(words, CHUNK), arg(words, HEADS), arg(words, KV_HEADS), arg(words, WIDTH)
        W, sinks = arg(words, WINDOW), arg(words, SINKS)
        queries, vectors, half = H // G, D // LANES, D // (2 * LANES)
        gone = min(sinks, arg(arg(words, POSITION), b) + t - W + 1)
        row = 4 * LANES * (1 + vectors)
        if gone > 0:
            q = area + queries * 4 * D
            keys = q + queries * 4 * D
            place = b * arg(args, SINK_ROW) + g * sinks * D * size
            widen(arg(args, SINK_K) + place, keys, gone * vectors)
            for j in range(gone):
                key, angles = keys + j * 4 * D, 4 * j * (D // 2)
                cos, sin = arg(words, SINK_COS) + angles, arg(words, SINK_SIN) + angles
                rotate_f32(key, cos, sin, key, half, arg(words, ONE))
            x = arg(args, QKV) + 4 * ((b * T + t) * (H + 2 * G) + g * queries) * D
            for j in range(queries):
                rotate_f32(
                    x + j * 4 * D, arg(words, QUERY_COS), arg(words, QUERY_SIN), q + j * 4 * D, half, arg(words, SCALE)
                )
            scores = keys + sinks * 4 * D
            values = arg(args, SINK_V) + place
            sink_block(q, keys, values, gone, 0, 0, 0, queries, vectors, scores, partials + blocks * queries * row)
            blocks += 1
        out = arg(args, OUT) + 4 * ((b * T + t) * H + g * queries) * D
        for j in range(queries):
            loops.combine(partials + j * row, blocks, queries * row, out + 4 * j * D, vectors)

    @compiled(f"rotate_queries_{size}")
    def rotate_queries(args: int, b: int, g: int, t: int, q: int) -> None:
        """A token's queries of one kv head, rotated and scaled, to q."""
        words = arg(args, WORDS)
        T, H, G, D = arg(words, CHUNK), arg(words, HEADS), arg(words, KV_HEADS), arg(words, WIDTH)
        x = arg(args, QKV) + 4 * ((b * T + t) * (H + 2 * G) + g * (H // G)) * D
        angles = 4 * (b * T + t) * (D // 2)
        cos, sin = arg(words, COS) + angles, arg(words, SIN) + angles
        for j in range(H // G):
            rotate_f32(x + j * 4 * D, cos, sin, q + j * 4 * D, D // (2 * LANES), arg(words, SCALE))

    @compiled(f"attend_{size}")
    def attend(args: int, item: int) -> None:
        """A single token: item (b, g, block), its partial. A chunk: item (b, g, STEP tokens), their results."""
        words, scratch = arg(args, WORDS), arg(args, SCRATCH)
        B, T, H, G = arg(words, ROWS), arg(words, CHUNK), arg(words, HEADS), arg(words, KV_HEADS)
        D, W, sinks, step = arg(words, WIDTH), arg(words, WINDOW), arg(words, SINKS), arg(words, STEP)
        queries, vectors = H // G, D // LANES
        history, partials_size, area_size = layout_(T, H, G, D, W, sinks, size)
        row = queries * 4 * LANES * (1 + vectors)
        per_head = (W + BLOCK - 1) // BLOCK if T == 1 else (T + step - 1) // step
        pair, i = item // per_head, item % per_head
        b, g = pair // G, pair % G
        p0, n = arg(arg(words, POSITION), b), arg(arg(words, LENGTHS), b)
        if T == 1:
            ring = b * arg(args, RING_ROW) + g * W * D * size
            keys, values = arg(args, RING_K) + ring, arg(args, RING_V) + ring
            area = scratch + B * G * partials_size + item * area_size
            partials = scratch + pair * partials_size
            token, last_token = 0, n
        else:
            keys, values = scratch + pair * history, scratch + (B * G + pair) * history
            area = scratch + 2 * B * G * history + item * area_size
            partials = area + area_size - partials_size
            token, last_token = i * step, min(n, (i + 1) * step)
        scores = area + 2 * queries * 4 * D + sinks * 4 * D
        for t in range(token, last_token):
            p = p0 + t
            slot, visible = p % W, min(p + 1, W)
            blocks = (visible + BLOCK - 1) // BLOCK
            # Where slot 0 of p's turn of the ring lies; the turn before is W earlier. In the ring itself they are one.
            start = 0 if T == 1 else W + p0 % W + t - slot
            first_block, last_block = (i, min(i + 1, blocks)) if T == 1 else (0, blocks)
            rotate_queries(args, b, g, t, area)
            for j in range(first_block, last_block):
                first, last = j * BLOCK, min((j + 1) * BLOCK, visible)
                newer = last - first if T == 1 else min(max(slot + 1 - first, 0), last - first)
                here, before = (start + first) * D * size, (start - W + first + newer) * D * size
                window_block(
                    area, keys + here, values + here, newer, keys + before, values + before, last - first - newer,
                    queries, vectors, scores, partials + j * row,
                )  # fmt: skip
            if T > 1:
                sinks_and_sum(args, b, g, t, area, partials, blocks)

    @compiled(f"finish_{size}")
    def finish(args: int, item: int) -> None:
        """Item (b, g). A single token: its result from its partials. A chunk: the ring gets its last W tokens."""
        words, scratch = arg(args, WORDS), arg(args, SCRATCH)
        B, T, H, G = arg(words, ROWS), arg(words, CHUNK), arg(words, HEADS), arg(words, KV_HEADS)
        D, W, sinks = arg(words, WIDTH), arg(words, WINDOW), arg(words, SINKS)
        b, g = item // G, item % G
        n, p0 = arg(arg(words, LENGTHS), b), arg(arg(words, POSITION), b)
        if n == 0:
            return
        history, partials_size, area_size = layout_(T, H, G, D, W, sinks, size)
        if T == 1:
            blocks = (min(p0 + 1, W) + BLOCK - 1) // BLOCK
            per_head = (W + BLOCK - 1) // BLOCK
            area = scratch + B * G * partials_size + item * per_head * area_size
            sinks_and_sum(args, b, g, 0, area, scratch + item * partials_size, blocks)
            return
        ring = b * arg(args, RING_ROW) + g * W * D * size
        ring_k, ring_v = arg(args, RING_K) + ring, arg(args, RING_V) + ring
        k = scratch + item * history + (W + p0 % W) * D * size
        v = k + B * G * history
        row = D * size // (4 * LANES)
        for t in range(max(0, n - W), n):
            slot = (p0 + t) % W * D * size
            loops.copy(k + t * D * size, ring_k + slot, row)
            loops.copy(v + t * D * size, ring_v + slot, row)

    return prepare, attend, finish


prepare_f32, attend_f32, finish_f32 = _kernels(bfloat16=False)
prepare_bf16, attend_bf16, finish_bf16 = _kernels(bfloat16=True)


class AttentionKernels(NamedTuple):
    """Addresses for `Pool.run`, one run after the other."""

    prepare: int
    attend: int
    finish: int


@cache
def attention_kernels(bfloat16: bool) -> AttentionKernels:
    """Compile them for one state dtype, or load them from the cache."""
    version = source_version()

    def prepare_32(args: int, item: int) -> None:
        if version:
            prepare_f32(args, item)

    def attend_32(args: int, item: int) -> None:
        if version:
            attend_f32(args, item)

    def finish_32(args: int, item: int) -> None:
        if version:
            finish_f32(args, item)

    def prepare_16(args: int, item: int) -> None:
        if version:
            prepare_bf16(args, item)

    def attend_16(args: int, item: int) -> None:
        if version:
            attend_bf16(args, item)

    def finish_16(args: int, item: int) -> None:
        if version:
            finish_bf16(args, item)

    entries = (prepare_16, attend_16, finish_16) if bfloat16 else (prepare_32, attend_32, finish_32)
    return AttentionKernels(*(compile_kernel(entry) for entry in entries))
