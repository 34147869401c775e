"""The chain of turns, from bytes: whole, or an error that names the turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.errors import CorruptState
from server.store.codec import encode_turn
from server.store.records import End, Session, Turn
from server.store.turns import chain

LINEAGE = "a" * 20
IDS = [f"turn_{LINEAGE}_{i:012}" for i in range(4)]


def turn(i: int, **changes: Any) -> Turn:
    made = Turn(
        *(IDS[i], IDS[i - 1] if i else None, (i, i), 2 * (i + 1)),
        *(End.EOS, "stop", float(i)),
    )
    return replace(made, **changes)


def session(head: int = 3) -> Session:
    return Session(
        id=f"sess_{LINEAGE}_0",
        tenant="t",
        model="m",
        fingerprint="f",
        head=IDS[head],
        length=2 * (head + 1),
        end=End.EOS,
        created=0.0,
        updated=0.0,
        expires=0.0,
        running=None,
        state_bytes=0,
        stored_bytes=0,
        turns=head + 1,
        kept=head + 1,
    )


def stored(*turns: Turn) -> dict[str, bytes]:
    return {t.id: encode_turn(t) for t in turns}


ALL = [turn(i) for i in range(4)]


def test_the_chain_is_oldest_first() -> None:
    assert chain(session(), stored(*ALL), frozenset()) == ALL
    assert chain(session(1), stored(*ALL), frozenset()) == ALL[:2]


def test_the_chain_begins_after_the_nearest_stop() -> None:
    assert chain(session(), stored(*ALL), frozenset(IDS[:2])) == ALL[2:]
    assert chain(session(), stored(*ALL[2:]), frozenset({IDS[1]})) == ALL[2:]
    assert chain(session(), {}, frozenset({IDS[3]})) == []


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (ALL[1:], f"{IDS[0]} .* missing"),
        ([turn(0, length=3), *ALL[1:]], f"{IDS[0]} .* ends at 3, 2 is due"),
        ([*ALL[:3], turn(3, length=9)], f"{IDS[3]} .* ends at 9, 8 is due"),
        ([*ALL[:3], turn(3, tokens=(1,) * 9)], f"{IDS[3]} .* longer"),
        ([*ALL[:3], turn(3, tokens=())], f"{IDS[3]} .* empty"),
        ([turn(0, tokens=(1,)), *ALL[1:]], "begins at 1"),
        ([ALL[0], turn(1, parent=IDS[3]), *ALL[2:]], f"{IDS[3]} .* ends at 8, 2 is due"),
    ],
)
def test_a_broken_chain_is_named(broken: list[Turn], why: str) -> None:
    with pytest.raises(CorruptState, match=why):
        chain(session(), stored(*broken), frozenset())
