"""The pool: views, swaps, copies, and what is refused."""

from __future__ import annotations

import pytest
import torch

from model.state import LeafSpec, State, StateError, StateSpec, as_rows, from_bytes, to_bytes

SPEC = StateSpec(
    {"ring": LeafSpec((2, 8, 3), torch.bfloat16, "a ring", ring_axis=1), "M": LeafSpec((3, 3), torch.float32, "m")}
)


def random_state(rows: int) -> State:
    state = State.zeros(SPEC, rows)
    for t in state.values():
        t.copy_(torch.randint(-9, 9, t.shape))
    return state


def test_spec_has_position_and_pending_and_counts_its_bytes() -> None:
    assert list(SPEC) == ["position", "pending", "ring", "M"]
    assert SPEC.nbytes == 8 + 8 + 2 * 8 * 3 * 2 + 9 * 4


def test_the_window_is_the_longest_ring() -> None:
    assert SPEC.window == 8
    longer = LeafSpec((9, 2), torch.float32, "another", ring_axis=0)
    assert StateSpec({"ring": SPEC["ring"], "another": longer}).window == 9
    assert StateSpec({"M": SPEC["M"]}).window is None


@pytest.mark.parametrize(
    "other",
    [
        {"ring": LeafSpec((2, 8, 3), torch.float32, "a ring", ring_axis=1), "M": SPEC["M"]},
        {"ring": LeafSpec((2, 8, 3), torch.bfloat16, "a ring"), "M": SPEC["M"]},
        {"ring": LeafSpec((2, 9, 3), torch.bfloat16, "a ring", ring_axis=1), "M": SPEC["M"]},
        {"rings": SPEC["ring"], "M": SPEC["M"]},
        {"M": SPEC["M"]},
    ],
)
def test_spec_hash_changes_with_anything_that_matters(other: dict[str, LeafSpec]) -> None:
    changed = StateSpec(other)
    assert changed.hash() != SPEC.hash()
    with pytest.raises(StateError):
        from_bytes(changed, to_bytes(State.zeros(SPEC, 1)))


def test_spec_hash_ignores_the_words() -> None:
    described = StateSpec({"ring": SPEC["ring"], "M": LeafSpec((3, 3), torch.float32, "another word for it")})
    assert described.hash() == SPEC.hash()


def test_slice_shares_and_clone_does_not() -> None:
    pool = random_state(4)
    kept = pool.clone()
    pool.slice(1, 3)["M"].fill_(5)
    assert (pool["M"][1:3] == 5).all()
    assert torch.equal(pool["M"][0], kept["M"][0])
    assert not pool.equal(kept)
    with pytest.raises(StateError):
        pool.slice(2, 5)


def test_swap_and_copy() -> None:
    pool = random_state(3)
    a, c = pool.slice(0, 1).clone(), pool.slice(2, 3).clone()
    pool.swap(0, 2)
    assert pool.slice(0, 1).equal(c)
    assert pool.slice(2, 3).equal(a)
    pool.slice(1, 2).copy_(a)
    assert pool.slice(1, 2).equal(a)
    with pytest.raises(StateError):
        pool.copy_(a)


def test_clear_is_the_empty_state() -> None:
    pool = random_state(2)
    pool.slice(0, 1).clear()
    assert pool.slice(0, 1).equal(State.zeros(SPEC, 1))
    assert not pool.slice(1, 2).equal(State.zeros(SPEC, 1))


def test_foreign_leaf_is_named() -> None:
    extra = State.zeros(StateSpec({"ring": SPEC["ring"], "M": SPEC["M"], "x": LeafSpec((), torch.int64, "x")}), 1)
    with pytest.raises(StateError, match="leaf x"):
        from_bytes(SPEC, to_bytes(extra))


def test_as_rows_pads_on_the_right() -> None:
    tokens, lengths = as_rows([[1, 2, 3], [], [4]])
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
