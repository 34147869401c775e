"""plan() and the fair queue, against their promises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.scheduler import Budget, Chunk, FairQueue, Plan, Reader, plan

BUDGET = Budget(chunk=4, beside=8, alone=16)
readers = st.lists(st.tuples(st.integers(1, 40), st.integers(-4, 9)), max_size=8).map(
    lambda rows: [Reader(f"r{i}", n, served, i) for i, (n, served) in enumerate(rows)]
)
budgets = st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 30)).map(
    lambda b: Budget(b[0], 1 + b[1], 1 + b[1] + b[2])
)


def test_nothing_to_read_is_an_empty_plan() -> None:
    assert plan([], BUDGET) == Plan((), ())


def test_streams_and_a_long_prompt_share_a_tick() -> None:
    rows = [Reader("long", 20_000, 0, 0), Reader("a", 1, 0, 1), Reader("b", 1, 0, 2)]
    assert plan(rows, BUDGET) == Plan(("a", "b"), (Chunk("long", 4), Chunk("long", 4)))


def test_a_prompt_alone_gets_the_larger_budget() -> None:
    assert plan([Reader("long", 20_000, 0, 0)], BUDGET).chunks == (Chunk("long", 4),) * 4


def test_chunks_are_larger_where_no_stream_waits() -> None:
    budget = Budget(chunk=16, beside=4, alone=16)
    assert plan([Reader("long", 99, 0, 0)], budget).chunks == (Chunk("long", 16),)
    assert plan([Reader("long", 99, 0, 0), Reader("a", 1, 0, 1)], budget).chunks == (Chunk("long", 4),)


def test_those_served_longest_ago_come_first_and_prompts_are_cut_at_full_chunks() -> None:
    rows = [Reader("recent", 9, 5, 0), Reader("older", 9, 2, 1), Reader("short", 3, 9, 2), Reader("s", 1, 0, 3)]
    assert plan(rows, BUDGET).chunks == (Chunk("older", 4), Chunk("recent", 4))
    rows[1] = Reader("older", 2, 2, 1)  # leaves room for 2 after `recent`: too little for anyone's next chunk
    assert plan(rows, BUDGET).chunks == (Chunk("older", 2), Chunk("recent", 4))
    rows[2] = Reader("short", 2, 9, 2)  # ends with what is left
    assert plan(rows, BUDGET).chunks == (Chunk("older", 2), Chunk("recent", 4), Chunk("short", 2))


@given(readers, budgets)
def test_every_stream_every_tick_and_never_beyond_the_budget(rows: list[Reader], budget: Budget) -> None:
    planned = plan(rows, budget)
    assert set(planned.decode) == {r.id for r in rows if r.readable == 1}
    assert len(set(planned.decode)) == len(planned.decode)
    assert sum(c.count for c in planned.chunks) <= (budget.beside if planned.decode else budget.alone)
    assert all(1 <= c.count <= budget.chunk for c in planned.chunks)
    full = min(budget.chunk, budget.beside if planned.decode else budget.alone)
    for r in rows:
        given_ = [c.count for c in planned.chunks if c.id == r.id]
        assert sum(given_) <= r.readable
        assert all(count == full for count in given_[:-1]), "only a prompt's end is less than a chunk"
        assert not given_ or given_[-1] == full or sum(given_) == r.readable
    if any(r.readable > 1 for r in rows):
        assert planned.chunks, "prompts always move on"


@given(st.lists(st.integers(2, 60), min_size=1, max_size=6), budgets)
def test_no_prompt_starves(lengths: list[int], budget: Budget) -> None:
    """However many prompts there are, the one served longest ago is served in every tick: so each within as many
    ticks as there are prompts."""
    left = {f"r{i}": n for i, n in enumerate(lengths)}
    served = dict.fromkeys(left, -4)
    for tick in range(2000):
        rows = [Reader(name, n, served[name], i) for i, (name, n) in enumerate(left.items()) if n > 1]
        if not rows:
            return
        for chunk in plan(rows, budget).chunks:
            assert tick - served[chunk.id] <= 4 + len(lengths)
            left[chunk.id] -= chunk.count
            served[chunk.id] = tick
    raise AssertionError("the prompts were never read")


@pytest.mark.parametrize("numbers", [(0, 1, 1), (2, 0, 3), (1, 3, 2)])
def test_an_impossible_budget_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="1 <= beside <= alone"):
        Budget(*numbers)


def test_groups_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        queue.put(name[0], name)
    assert len(queue) == 6
    assert [queue.take() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    queue.put("c", "c2")  # c has had its turn: it comes after those who have not
    assert [queue.take() for _ in range(3)] == ["b2", "a3", "c2"]
    with pytest.raises(IndexError):
        queue.take()


def test_removed_items_are_gone_and_their_group_with_them() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("a1", "a2", "b1"):
        queue.put(name[0], name)
    queue.remove(lambda name: name in ("b1", "a1"))
    assert list(queue) == ["a2"]
    assert queue.take() == "a2"
    assert len(queue) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), max_size=30))
def test_first_come_first_served_within_a_group(items: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for item in items:
        queue.put(item[0], item)
    taken = [queue.take() for _ in items]
    for group in "abc":
        assert [i for i in taken if i[0] == group] == [i for i in items if i[0] == group]
        # until it runs out, a group is served in every round
        places = [place for place, item in enumerate(taken) if item[0] == group]
        assert all(later - earlier <= 3 for earlier, later in itertools.pairwise(places))
