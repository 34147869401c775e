"""The architectures under the laws. One that is registered and has no entry here fails `test_every_architecture`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.infini import Rule
from model.state import Model
from support.tiny import make_ops, senri
from support.tiny_rsm import rsm
from support.tiny_smt import smt
from support.tiny_ssm import hybrid, mamba, mamba2


@dataclass(frozen=True)
class Subject:
    """One variant: `build()` makes a fresh instance of the same weights; `tolerance` is absolute, on logits of
    standard deviation about 8; `invariant` promises bits that do not depend on batch or chunk."""

    build: Callable[[], Model]
    tolerance: float
    boundaries: tuple[int, ...]  # lengths at which something wraps: segment, window, both
    invariant: bool = False
    full: bool = False  # only in `make test-full`: what it shows is shown in the normal run too, less at length


def _senri(ops: str, rule: Rule, gates: bool, **change: Any) -> Callable[[], Model]:
    return lambda: senri(make_ops(ops), rule=rule, gates=gates, **change)


def _mamba(ops: str, **change: Any) -> Callable[[], Model]:
    return lambda: mamba(make_ops(ops), **change)


def _mamba2(ops: str, **change: Any) -> Callable[[], Model]:
    return lambda: mamba2(make_ops(ops), **change)


def _smt(ops: str, **change: Any) -> Callable[[], Model]:
    return lambda: smt(make_ops(ops), **change)


def _hybrid(ops: str, **change: Any) -> Callable[[], Model]:
    return lambda: hybrid(make_ops(ops), **change)


def _rsm(ops: str, **change: Any) -> Callable[[], Model]:
    return lambda: rsm(make_ops(ops), **change)


# A memory whose gated reads, without a norm, are added after the last layer.
LATE: dict[str, Any] = {"memory_reads": "end", "memory_read_gate": True, "memory_read_norm": False}
# And a token is written as it leaves the window, under keys of the second degree.
LEAVING: dict[str, Any] = LATE | {"memory_writes": "leaving", "memory_key_degree": 2, "memory_conv_width": 6}
WRAPS = (4, 8, 16, 24, 32)
STRIDES = (4, 9, 12, 16)  # a write of SMT, the window of tokens full, the window of outputs full, one has left it
CHUNKS = (8, 16, 32)  # a chunk of RSM, a GlobalSync, the second
BLOCKS = (3, 4, 32)  # the convolution's tail; where compiled scans begin to copy a state; tokens of an item
# Window keys in bfloat16 carry 8 bits: one that is rounded the other way moves a logit by some hundredths.
SUBJECTS: dict[str, dict[str, Subject]] = {
    "senri": {
        "delta-ref": Subject(_senri("ref", Rule.DELTA, True), 1e-3, WRAPS),
        "closed-cpu-f32": Subject(_senri("cpu-f32", Rule.LINEAR, False), 1e-3, WRAPS),
        "linear-cpu-f32": Subject(_senri("cpu-f32", Rule.LINEAR, True), 1e-3, WRAPS),
        "delta-cpu-f32": Subject(_senri("cpu-f32", Rule.DELTA, True), 1e-3, WRAPS),
        "linear-cpu-bf16": Subject(_senri("cpu-bf16", Rule.LINEAR, True), 0.25, WRAPS),
        "closed-invariant": Subject(_senri("invariant", Rule.LINEAR, False), 0.25, WRAPS, invariant=True),
        "delta-invariant": Subject(_senri("invariant", Rule.DELTA, True), 0.25, WRAPS, invariant=True),
        "gated-delta-ref": Subject(_senri("ref", Rule.GATED_DELTA, True), 1e-3, WRAPS, full=True),
        "gated-delta-cpu-f32": Subject(_senri("cpu-f32", Rule.GATED_DELTA, True, memory_heads=3), 1e-3, WRAPS),
        "gated-delta-invariant": Subject(_senri("invariant", Rule.GATED_DELTA, True), 0.25, WRAPS, invariant=True),
        "gated-delta-late-cpu-f32": Subject(_senri("cpu-f32", Rule.GATED_DELTA, True, **LATE), 1e-3, WRAPS),
        "gated-delta-late-invariant": Subject(
            _senri("invariant", Rule.GATED_DELTA, True, **LATE), 0.25, WRAPS, invariant=True, full=True
        ),
        "gated-delta-leaving-cpu-f32": Subject(_senri("cpu-f32", Rule.GATED_DELTA, True, **LEAVING), 1e-3, WRAPS),
        "gated-delta-leaving-invariant": Subject(
            _senri("invariant", Rule.GATED_DELTA, True, **LEAVING), 0.25, WRAPS, invariant=True
        ),
        "shared-linear-ref": Subject(_senri("ref", Rule.LINEAR, True, share_memory=True), 1e-3, WRAPS, full=True),
        "shared-delta-cpu-f32": Subject(_senri("cpu-f32", Rule.DELTA, True, share_memory=True), 1e-3, WRAPS, full=True),
        "shared-delta-invariant": Subject(
            _senri("invariant", Rule.DELTA, True, share_memory=True), 0.25, WRAPS, invariant=True, full=True
        ),
        "routed-linear-ref": Subject(_senri("ref", Rule.LINEAR, True, num_memories=3), 1e-3, WRAPS, full=True),
        "routed-delta-cpu-f32": Subject(_senri("cpu-f32", Rule.DELTA, True, num_memories=3), 1e-3, WRAPS, full=True),
        "routed-shared-invariant": Subject(
            _senri("invariant", Rule.DELTA, True, num_memories=2, share_memory=True), 0.25, WRAPS, invariant=True
        ),
    },
    "hybrid": {
        "ref": Subject(_hybrid("ref"), 1e-3, WRAPS, full=True),
        "cpu-f32": Subject(_hybrid("cpu-f32"), 1e-3, WRAPS, invariant=True),
        "no-sinks-ref": Subject(_hybrid("ref", num_sink_tokens=0), 1e-3, WRAPS, full=True),
        "no-sinks-invariant": Subject(_hybrid("invariant", num_sink_tokens=0), 0.25, WRAPS, invariant=True),
    },
    "mamba": {
        "ref": Subject(_mamba("ref"), 1e-3, BLOCKS),
        "cpu-f32": Subject(_mamba("cpu-f32"), 1e-3, BLOCKS, invariant=True),
        "invariant": Subject(_mamba("invariant"), 1e-3, BLOCKS, invariant=True, full=True),
    },
    "mamba2": {
        "ref": Subject(_mamba2("ref"), 1e-3, BLOCKS, full=True),
        "cpu-f32": Subject(_mamba2("cpu-f32"), 1e-3, BLOCKS, invariant=True),
        "invariant": Subject(_mamba2("invariant"), 1e-3, BLOCKS, invariant=True, full=True),
        "one-group-cpu-f32": Subject(_mamba2("cpu-f32", n_groups=1, num_heads=2, head_dim=32), 1e-3, BLOCKS, full=True),
    },
    "rsm": {
        "sync-ref": Subject(_rsm("ref"), 1e-3, CHUNKS),
        "sync-cpu-f32": Subject(_rsm("cpu-f32"), 1e-3, CHUNKS, invariant=True),
        "sync-invariant": Subject(_rsm("invariant"), 0.25, CHUNKS, invariant=True),
        "no-sync-invariant": Subject(_rsm("invariant", sync_every=0), 0.25, CHUNKS, invariant=True, full=True),
    },
    "smt": {
        "ref": Subject(_smt("ref"), 1e-3, STRIDES),
        "cpu-f32": Subject(_smt("cpu-f32"), 1e-3, STRIDES, invariant=True),
        "stride-of-the-window": Subject(_smt("cpu-f32", stride=9, n_ssm_outputs=1), 1e-3, (9, 18), invariant=True),
    },
}
