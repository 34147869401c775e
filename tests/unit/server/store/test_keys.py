"""Ids and keys."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.store import keys as ids
from server.store.keys import Keys

LINEAGE = "0123456789abcdefghij"
SESSION = f"sess_{LINEAGE}_12"
GENERATION = f"gen_{LINEAGE}_abcdefabcdef"
TURN = f"turn_{LINEAGE}_000000000000"


def test_new_ids_are_parsed_and_never_repeat() -> None:
    sessions = {ids.new_session_id() for _ in range(200)}
    assert len(sessions) == 200
    for session in sessions:
        parsed = ids.parse_session(session)
        assert parsed is not None
        lineage, branch = parsed
        assert branch == 0
        assert ids.parse_generation(ids.new_generation_id(lineage)) == lineage
        assert ids.parse_turn(ids.new_turn_id(lineage)) == lineage
    assert len({ids.new_nonce() for _ in range(200)}) == 200


def test_the_lineage_is_in_every_id() -> None:
    assert ids.parse_session(SESSION) == (LINEAGE, 12)
    assert [ids.lineage_of(i) for i in (SESSION, GENERATION, TURN)] == [LINEAGE] * 3


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "sess_",
        SESSION + "\n",
        " " + SESSION,
        SESSION.upper(),
        SESSION[:-3],
        f"sess_{LINEAGE}_012",
        f"sess_{LINEAGE}_-1",
        f"sess_{LINEAGE}_1e3",
        f"sess_{LINEAGE}_٣",
        f"sess_{LINEAGE}_{10**12}",
        f"sess_{LINEAGE[:-1]}}}_1",
        f"gen_{LINEAGE}_abcdefabcde",
        f"gen_{LINEAGE}_abcdefabcdefa",
        f"turn_{LINEAGE}_ABCDEFABCDEF",
        f"turn_{LINEAGE}_abcdef:abcde",
    ],
)
def test_what_is_not_exactly_an_id_is_none(bad: str) -> None:
    assert ids.parse_session(bad) is None
    assert ids.parse_generation(bad) is None
    assert ids.parse_turn(bad) is None
    with pytest.raises(ValueError, match="not an id"):
        ids.lineage_of(bad)


def test_responses_and_conversations_are_other_names() -> None:
    response, conversation = ids.response_of(GENERATION), ids.conversation_of(SESSION)
    assert response == f"resp_{LINEAGE}_abcdefabcdef"
    assert ids.answering(response) == GENERATION
    assert conversation == f"conv_{LINEAGE}_12"
    assert ids.conversing(conversation) == SESSION
    for bad in ("", GENERATION, SESSION, f"{response}\n", response.upper(), f"{conversation} ", f"conv_{LINEAGE}_01"):
        assert (ids.answering(bad), ids.conversing(bad)) == (None, None)
    for wrong in (TURN, "gen_", "x"):
        with pytest.raises(ValueError, match="not a"):
            ids.response_of(wrong)
        with pytest.raises(ValueError, match="not a"):
            ids.conversation_of(wrong)


@given(st.text(max_size=60))
def test_only_canonical_ids_are_accepted(text: str) -> None:
    if (parsed := ids.parse_session(text)) is not None:
        assert f"sess_{parsed[0]}_{parsed[1]}" == text


def test_all_keys_of_a_lineage_share_its_hash_tag() -> None:
    keys = Keys("p")
    names = [
        *(keys.session(SESSION), keys.gone(SESSION), keys.turns(LINEAGE), keys.snaps(LINEAGE), keys.blocks(LINEAGE)),
        *(keys.generation(GENERATION), keys.events(GENERATION), keys.live(GENERATION)),
    ]
    assert len(set(names)) == len(names)
    assert all(re.findall(r"\{(.*?)\}", name) == [LINEAGE] for name in names)
    assert all(name.startswith("p:") for name in names)
    queued = (keys.queue, keys.stream("w"), keys.queued(GENERATION), keys.intended, keys.workers, keys.alive("w"))
    assert {re.findall(r"\{(.*?)\}", name)[0] for name in queued} == {"queue"}
    assert len(set(queued)) == len(queued)
    assert keys.stream("") == keys.queue


def test_a_key_is_made_of_ids_only() -> None:
    keys = Keys()
    for make in (keys.session, keys.gone, keys.generation, keys.events, keys.live):
        with pytest.raises(ValueError, match="not a"):
            make("x}:other")
