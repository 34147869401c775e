"""A few threads that share out one kernel at a time, with no lock and no system call on the way.

One decode step is some 150 parallel regions of 10 to 100 microseconds; what OpenMP takes to open and close each of them
would be a fifth of the step. Here the caller writes what is to be done into shared words and bumps a sequence number;
workers that are still spinning see it within a microsecond, take items off a counter beside the caller, and the caller
returns when all items are done. A worker that has seen nothing for a while sleeps; the next call wakes it, and until it
is awake the others do its share, so no call ever waits for a sleeper.

Invariants: one kernel runs at a time (under a lock; callers on other threads wait); a worker touches a job only
between counting itself in and out, and the caller does not return while anyone is counted in. Items may run in any
order on any thread, so a kernel's items must not depend on each other.

It knows nothing of what kernels compute.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numpy.typing import NDArray

from model.kernels.emit import I32, I64, VOID, Emit, Value, cpu_features, routine

# Byte offsets of the shared words; those that different threads write lie on different cache lines.
SEQUENCE, NEXT, ACTIVE, JOB, STOP, ASLEEP = 0, 64, 128, 192, 256, 320
KERNEL, ITEMS, ARGS = JOB, JOB + 8, JOB + 16
PHASE = 16  # words of a phase: its kernel's address, its items, its arguments
MOST = 4  # phases that `run` takes at a time
SPINS = 6000  # pauses, 50 to 250 microseconds, that a worker waits on its processor for the next job
YIELDS = 2000  # times that it then gives way before it sleeps: a millisecond or two on an idle machine
PATIENCE = 40_000  # pauses the caller waits for a worker before it gives way
LATE = 2_000_000  # processor cycles, some 0.7 milliseconds, after which a worker counts as held up
PENALTIES = (32, 4096)  # phases the caller then does alone, the first time and at most
MAX_THREADS = 16  # past this a model of this size only gets slower

SOURCES = ("emit.py", "pool.py", "cpu_rows.py", "cpu_linear.py", "cpu_attention.py", "cpu_attention_loops.py")
BODY = types.void(types.int64, types.int64)  # a kernel: (address of its arguments, item)


@routine(1, types.int64)
def atomic_load(e: Emit, args: Sequence[Value]) -> Value:
    """(address): the int64 there."""
    return e.b.load_atomic(e.b.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8, typ=I64)


@routine(2)
def atomic_store(e: Emit, args: Sequence[Value]) -> None:
    """(address, value)"""
    e.b.store_atomic(args[1], e.b.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)


@routine(2, types.int64)
def atomic_add(e: Emit, args: Sequence[Value]) -> Value:
    """(address, value): adds; returns what was there."""
    return e.b.atomic_rmw("add", e.b.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")


@routine(0)
def pause(e: Emit, _args: Sequence[Value]) -> None:
    """Tell the processor that this is a waiting loop."""
    if "sse2" in cpu_features():
        e.call("llvm.x86.sse2.pause", VOID)
    elif "neon" in cpu_features():
        e.call("llvm.aarch64.hint", VOID, e.scalar(I32, 1))


@routine(0, types.int64)
def cycles(e: Emit, _args: Sequence[Value]) -> Value:
    """The processor's time stamp; always 0 where reading it is not for everyone."""
    return e.call("llvm.readcyclecounter", I64) if "sse2" in cpu_features() else e.scalar(I64, 0)


@routine(0)
def give_way(e: Emit, _args: Sequence[Value]) -> None:
    """Let another thread have this processor: on a busy machine it may be the one we wait for."""
    e.call("sched_yield", I32)


@routine(3)
def call_kernel(e: Emit, args: Sequence[Value]) -> None:
    """(kernel's address, its arguments' address, item)"""
    kernel, *rest = args
    e.b.call(e.b.inttoptr(kernel, ir.FunctionType(VOID, [I64, I64]).as_pointer()), rest)


@routine(2, types.int64)
def arg(e: Emit, args: Sequence[Value]) -> Value:
    """(address of arguments, index): a kernel's argument."""
    return e.load(e.at(args[0], e.times(args[1], 8)), I64)


def compiled(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for kernels to call, under a name of its own.

    What a factory makes several of must be told apart by name: machine code from the cache, named by another process,
    and code compiled here would otherwise be taken for each other.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        function.__name__ = function.__qualname__ = name
        options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # only kernels call it
        return njit(error_model="numpy", **options)(function)

    return decorate


def compile_kernel(entry: Callable[[int, int], None]) -> int:
    """Compile `entry(args, item)`, or load it from the cache; returns its address. It is never freed."""
    compiled: Any = cfunc(BODY, cache=True, error_model="numpy")(entry)
    _KEPT.append(compiled)
    return int(compiled.address)


_KEPT: list[Any] = []  # compiled kernels: machine code lives as long as the process, as an import does


@cache
def source_version() -> int:
    """A number that changes with any kernel source.

    Numba's cache looks at the time stamp of the file a function stands in, not of those it calls into. A kernel's entry
    closes over this number, which is part of the cache's key.
    """
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return int.from_bytes(digest.digest()[:6], "little")


@njit(nogil=True)
def share(pool: int) -> None:
    """Take items off the current job until none is left."""
    kernel, items, args = atomic_load(pool + KERNEL), atomic_load(pool + ITEMS), atomic_load(pool + ARGS)
    item = atomic_add(pool + NEXT, 1)
    while item < items:
        call_kernel(kernel, args, item)
        item = atomic_add(pool + NEXT, 1)


@njit(nogil=True)
def run_phase(pool: int, phase: int, alone: bool) -> int:
    """Run one kernel over its items; returns, when all are done, for how many cycles the caller waited for others."""
    kernel, items, args = arg(phase, 0), arg(phase, 1), phase + 16
    if alone or items <= 1:
        for item in range(items):
            call_kernel(kernel, args, item)
        return 0
    atomic_store(pool + KERNEL, kernel)
    atomic_store(pool + ITEMS, items)
    atomic_store(pool + ARGS, args)
    atomic_store(pool + NEXT, 0)
    sequence = atomic_load(pool + SEQUENCE) + 1
    atomic_store(pool + SEQUENCE, sequence)  # odd: open
    share(pool)
    atomic_store(pool + SEQUENCE, sequence + 1)  # even: closed, nobody enters any more
    began, pauses = cycles(), 0
    while atomic_load(pool + ACTIVE) != 0:
        pause()
        pauses += 1
        if pauses % PATIENCE == 0:
            give_way()
    waited: int = cycles() - began
    return waited


@njit(nogil=True, cache=True)
def run_phases(pool: int, program: int, phases: int, alone: bool) -> int:
    """Run the phases at `program`, one after the other; returns the longest wait, in cycles."""
    longest = 0
    for i in range(phases):
        longest = max(longest, run_phase(pool, program + 8 * PHASE * i, alone))
    return longest


@njit(nogil=True, cache=True)
def work(pool: int, last: int, asleep: int) -> int:
    """A worker's waking life: help with every job until there was none for a while.

    Returns the sequence number it saw last, or −1 when it must end; its word at `asleep` is 1 when it returns.
    """
    idle = 0
    while idle < SPINS + YIELDS and atomic_load(pool + STOP) == 0:
        sequence = atomic_load(pool + SEQUENCE)
        if sequence % 2 == 1 and sequence != last:
            atomic_add(pool + ACTIVE, 1)
            if atomic_load(pool + SEQUENCE) == sequence:  # still open: its words stay as they are while we are in
                share(pool)
            atomic_add(pool + ACTIVE, -1)
            last, idle = sequence, 0
        else:
            idle += 1
            if idle < SPINS:
                pause()
            else:
                give_way()
    atomic_store(asleep, 1)
    return -1 if atomic_load(pool + STOP) != 0 else last


def phase(kernel: int, items: int, *args: int) -> tuple[int, ...]:
    """A kernel over items 0 … items−1, as `PHASE` words."""
    return (kernel, items, *args, *_PADDING[len(args)])


_PADDING = tuple((0,) * (PHASE - 2 - n) for n in range(PHASE - 1))
_PACK = tuple(struct.Struct(f"{PHASE * n}q").pack_into for n in range(MOST + 1))


class Pool:
    """`threads` threads in all, the caller's included; see the module's docstring.

    Whoever runs phases holds `lock`, from asking for scratch until they are done.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"a pool needs at least 1 thread, not {threads}")
        self.threads = min(threads, MAX_THREADS)
        self.lock = threading.Lock()
        self._words = np.zeros((ASLEEP + 64 * self.threads) // 8 + 8, dtype=np.int64)
        self._base = _on_a_line(self._words.ctypes.data)
        self._phases = np.zeros(PHASE * MOST, dtype=np.int64)
        self._program = self._phases.ctypes.data
        self._scratch = np.zeros(64, dtype=np.uint8)
        self._scratch_at = _on_a_line(self._scratch.ctypes.data)
        self._alone, self._penalty = 0, PENALTIES[0]
        self._start()
        pool = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _restart(pool))

    def restart(self) -> None:
        """Give a pool that came through a fork workers of its own; whoever held the lock is not in this process."""
        self.lock = threading.Lock()
        self._words[:] = 0
        self._start()

    def _start(self) -> None:
        self._wake = [threading.Event() for _ in range(self.threads - 1)]
        words = self._words.data
        first = (self._base - self._words.ctypes.data) // 8
        self._asleep = words[first + ASLEEP // 8 :: 8]  # one word a line
        for i, wake in enumerate(self._wake):
            args = (self._words, self._base, self._base + ASLEEP + 64 * i, wake)
            threading.Thread(target=_live, args=args, name=f"kernels-{i}", daemon=True).start()
        weakref.finalize(self, _stop, words[first + STOP // 8 : first + STOP // 8 + 1], self._wake)

    def scratch(self, size: int) -> int:
        """The address of `size` bytes, aligned to 64, of undefined content; they are another's once the lock is."""
        if size + 64 > len(self._scratch):
            self._scratch = np.zeros(size + 64, dtype=np.uint8)
            self._scratch_at = _on_a_line(self._scratch.ctypes.data)
        return self._scratch_at

    def run(self, *phases: tuple[int, ...]) -> None:
        """Run up to `MOST` phases, one after the other."""
        _PACK[len(phases)](self._phases.data, 0, *chain.from_iterable(phases))
        self.run_program(self._program, len(phases))

    def run_program(self, program: int, phases: int) -> None:
        """Run the phases at an address, one after the other.

        Where a worker was held up (another process has its processor), the next phases are run without it: waiting for
        it would cost more than its help is worth. Twice as many each time it happens again, fewer when it does not.
        """
        if self._alone > 0:
            self._alone -= phases
            run_phases(self._base, program, phases, True)
            return
        for i, wake in enumerate(self._wake):
            if self._asleep[i]:
                self._asleep[i] = 0
                wake.set()
        if run_phases(self._base, program, phases, self.threads == 1) >= LATE:
            self._alone, self._penalty = self._penalty, min(2 * self._penalty, PENALTIES[1])
        elif self._penalty > PENALTIES[0]:
            self._penalty = max(self._penalty - phases, PENALTIES[0])


def _on_a_line(address: int) -> int:
    """The first address from there on that begins a cache line."""
    return -(-address // 64) * 64


def _live(words: NDArray[np.int64], base: int, asleep: int, wake: threading.Event) -> None:
    """A worker thread: works, sleeps, is woken. Holds the words, never the pool, so that a dropped pool ends it."""
    last = 0
    while words is not None and (last := work(base, last, asleep)) >= 0:
        wake.wait()
        wake.clear()


def _restart(pool: weakref.ref[Pool]) -> None:
    """After a fork."""
    if (forked := pool()) is not None:
        forked.restart()


def _stop(stop: memoryview, wakes: list[threading.Event]) -> None:
    """End the workers of a pool that is gone."""
    stop[0] = 1
    for wake in wakes:
        wake.set()
