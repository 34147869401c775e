"""States in memory: the bound, who goes first, and that nothing stale is found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.worker.ram import Held, RamStates


def held(session: str, nbytes: int = 10, turn: str = "t1", value: int = 0) -> Held[int]:
    return Held(session, turn, nbytes, value)


def sessions(ram: RamStates[int]) -> list[str]:
    return [one.session for one in ram.all()]


def test_the_least_recently_used_goes_first() -> None:
    ram: RamStates[int] = RamStates(30)
    for name in "abc":
        assert ram.put(held(name)) == []
    assert ram.get("a") == held("a")
    assert ram.peek("b") == held("b")  # does not count
    assert ram.put(held("d")) == [held("b")]
    assert ram.put(held("e", nbytes=15)) == [held("c"), held("a")]
    assert sessions(ram) == ["d", "e"]
    assert ram.nbytes == 25


def test_a_session_has_one_state_its_newest() -> None:
    ram: RamStates[int] = RamStates(20)
    ram.put(held("a"))
    ram.put(held("b"))
    assert ram.put(held("a", turn="t2")) == []  # the older one made room itself
    assert ram.get("a") == held("a", turn="t2")
    assert (len(ram), ram.nbytes) == (2, 20)


def test_what_is_larger_than_the_bound_is_not_kept_and_nothing_goes_for_it() -> None:
    ram: RamStates[int] = RamStates(20)
    ram.put(held("a"))
    assert ram.put(held("b", nbytes=21)) == [held("b", nbytes=21)]
    assert sessions(ram) == ["a"]
    large = held("a", nbytes=21, turn="t2")
    assert ram.put(large) == [large]
    assert ram.get("a") is None  # not its older state either
    none: RamStates[int] = RamStates(0)
    assert none.put(held("a")) == [held("a")]
    assert len(none) == 0


def test_dropped() -> None:
    ram: RamStates[int] = RamStates(20)
    ram.put(held("a"))
    ram.drop("a")
    ram.drop("a")
    assert ram.get("a") is None
    assert ram.nbytes == 0


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 12), st.sampled_from(["put", "get", "drop"]))))
def test_it_is_what_a_list_in_order_of_use_would_be(steps: list[tuple[str, int, str]]) -> None:
    ram: RamStates[int] = RamStates(20)
    plain: list[tuple[str, int]] = []
    for name, nbytes, what in steps:
        mine = [entry for entry in plain if entry[0] == name]
        if what == "get":
            assert (ram.get(name) is not None) == bool(mine)
            plain = [entry for entry in plain if entry[0] != name] + mine
        elif what == "drop":
            ram.drop(name)
            plain = [entry for entry in plain if entry[0] != name]
        else:
            gone = ram.put(held(name, nbytes))
            plain = [entry for entry in plain if entry[0] != name] + [(name, nbytes)]
            expected = []
            while sum(size for _, size in plain) > 20:
                expected.append(plain.pop(0))
            assert [(one.session, one.nbytes) for one in gone] == expected
        assert [(one.session, one.nbytes) for one in ram.all()] == plain
        assert ram.nbytes == sum(size for _, size in plain) <= 20
