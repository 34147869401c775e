"""The thread pool: every item once, from any thread, after a fork, and no thread left behind."""

import ctypes
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from model.kernels.pool import Pool, arg, atomic_add, compile_kernel, phase


def mark(args: int, item: int) -> None:
    """Add item + 1 to word `item` of the array at args[0], and count in its last word."""
    base = arg(args, 0)
    atomic_add(base + 8 * item, item + 1)
    atomic_add(base + 8 * arg(args, 1), 1)


@pytest.fixture(scope="module")
def kernel() -> int:
    return compile_kernel(mark)


def run(pool: Pool, kernel: int, items: int, scratch: int = 0) -> NDArray[np.int64]:
    words = np.zeros(items + 1, dtype=np.int64)
    with pool.lock:
        address = pool.scratch(scratch)
        assert address % 64 == 0
        ctypes.memset(address, 1, scratch)
        pool.run(phase(kernel, items, words.ctypes.data, items))
    return words


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_once(kernel: int, threads: int) -> None:
    pool = Pool(threads)
    for items in [0, 1, 2, 7, 1000] * 20:
        assert run(pool, kernel, items).tolist() == [*range(1, items + 1), items]


def test_phases_run_one_after_the_other(kernel: int) -> None:
    pool = Pool(3)
    words = np.zeros(101, dtype=np.int64)
    with pool.lock:
        pool.run(*(phase(kernel, items, words.ctypes.data, 100) for items in (100, 50, 10)))
    expected = [(i + 1) * (1 + (i < 50) + (i < 10)) for i in range(100)]
    assert words.tolist() == [*expected, 160]


def test_many_callers(kernel: int) -> None:
    pool = Pool(2)
    wrong: list[int] = []

    def call() -> None:
        wrong.extend(
            items
            for items in range(1, 200)
            if run(pool, kernel, items, scratch=64 * items).tolist() != [*range(1, items + 1), items]
        )

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("kernels-")]


def test_a_dropped_pool_ends_its_threads(kernel: int) -> None:
    before = set(workers())
    pool = Pool(3)
    run(pool, kernel, 100)
    own = [t for t in workers() if t not in before]
    assert len(own) == 2
    del pool
    gc.collect()
    for thread in own:
        thread.join(timeout=10)
    assert not any(t.is_alive() for t in own)


def in_a_fork(work: Callable[[], bool]) -> int:
    """Run `work` in a forked child; its exit code is 0 where it returned True."""
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pool_works_in_a_forked_child(kernel: int) -> None:
    pool = Pool(2)
    run(pool, kernel, 100)
    assert in_a_fork(lambda: run(pool, kernel, 100).tolist() == [*range(1, 101), 100]) == 0


def test_a_pool_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
