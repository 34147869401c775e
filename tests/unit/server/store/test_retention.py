"""What a branch needs, on made-up trees: the law is that every kept turn can be restored and the rest is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.store.records import End, Outline
from server.store.retention import Needs, SnapshotOutline, chain, needs

SIZE = 100


def line(count: int, first: int = 0) -> dict[str, Outline]:
    """Turns t<first> … of 10 tokens each, in a row; before t0 is nothing."""
    return {
        f"t{i}": Outline(f"t{i}", f"t{i - 1}" if i else None, 10, 10 * (i + 1), End.RAW, SIZE)
        for i in range(first, count)
    }


def saved(*turns: int) -> dict[str, SnapshotOutline]:
    """Snapshots at these turns: one block of their own each and one that all share."""
    return {f"t{i}": SnapshotOutline(10 * (i + 1) - 1, 7, {f"own{i}": 1000, "shared": 5000}) for i in turns}


def test_everything_is_needed_until_there_is_a_snapshot_to_go_on_from() -> None:
    need = needs("t9", line(10), {}, 3, 4)
    assert need == Needs(tuple(f"t{i}" for i in range(9, -1, -1)), frozenset(), 10, 10 * SIZE)


def test_the_newest_snapshot_at_or_before_the_oldest_kept_turn_is_the_base() -> None:
    need = needs("t9", line(10), saved(1, 5, 7, 8), 3, 4)
    assert need.turns == ("t9", "t8", "t7")
    assert need.snapshots == {"t7", "t8"}
    assert need.nbytes == 3 * SIZE + 2 * (7 + 1000) + 5000
    assert needs("t9", line(10), saved(1, 5, 8), 3, 4).turns == ("t9", "t8", "t7", "t6", "t5")


def test_a_session_rewound_after_it_was_trimmed_keeps_its_base() -> None:
    need = needs("t6", line(7, first=5), saved(5), 10, 4)
    assert need.turns == ("t6", "t5")
    assert need.snapshots == {"t5"}


def test_base_and_newest_stay_however_few_may() -> None:
    assert needs("t9", line(10), saved(2, 4, 6, 9), 4, 1).snapshots == {"t6", "t9"}


def test_an_empty_session_needs_nothing() -> None:
    assert needs(None, line(3), saved(1), 3, 4) == Needs((), frozenset(), 0, 0)


def test_a_chain_that_bites_its_tail_ends() -> None:
    loop = {"a": Outline("a", "b", 1, 1, End.RAW, 1), "b": Outline("b", "a", 1, 2, End.RAW, 1)}
    assert [turn.id for turn in chain("a", loop)] == ["a", "b"]


@given(st.data(), st.integers(1, 8), st.integers(1, 4), st.integers(1, 60))
def test_whatever_happened_every_kept_turn_can_be_restored(
    data: st.DataObject, turns_kept: int, snapshots_kept: int, count: int
) -> None:
    """Turns come one by one, some are saved, sometimes the session is rewound; each time what is not needed goes."""
    outlines: dict[str, Outline] = {}
    snapshots: dict[str, SnapshotOutline] = {}
    head: str | None = None
    since = 0
    for made in range(count):
        if head is not None and data.draw(st.integers(0, 9)) == 0:
            there = chain(head, outlines)
            head = there[data.draw(st.integers(0, len(there) - 1))].id
        length = outlines[head].length if head else 0
        name = f"t{made}"
        outlines[name] = Outline(name, head, 10, length + 10, End.RAW, SIZE)
        head = name
        since += 1
        if since >= 3 or data.draw(st.booleans()):
            snapshots[name] = SnapshotOutline(length + 9, 7, {name: 1000})
            since = 0
        need = needs(head, outlines, snapshots, turns_kept, snapshots_kept)
        outlines = {t: outlines[t] for t in need.turns}
        snapshots = {s: snapshots[s] for s in need.snapshots}

        kept = chain(head, outlines)
        assert [t.id for t in kept] == list(need.turns)
        assert kept[-1].parent is None or kept[-1].id in snapshots
        assert need.kept >= min(turns_kept, len(kept))
        assert len(snapshots) <= max(snapshots_kept, 2)
        assert need.nbytes == SIZE * len(outlines) + 1007 * len(snapshots)


def test_what_is_stored_stops_growing() -> None:
    """A thousand turns, a snapshot at every fifth: turns and snapshots come to a bound and stay there."""
    outlines: dict[str, Outline] = {}
    snapshots: dict[str, SnapshotOutline] = {}
    sizes = []
    for i in range(1000):
        outlines |= line(i + 1, first=i)
        snapshots |= saved(i) if i % 5 == 0 else {}
        need = needs(f"t{i}", outlines, snapshots, 20, 4)
        outlines = {t: outlines[t] for t in need.turns}
        snapshots = {s: snapshots[s] for s in need.snapshots}
        sizes.append(need.nbytes)
    assert max(sizes[200:600]) == max(sizes[600:])
    assert max(len(outlines), 20) <= 3 * 20
