"""What the memory that ships is for: facts told in a chat are answered long after they left the window."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import httpx
import pytest

from model.training.held_out import sentences
from support.conversation import Serve, generate, say, serving

pytestmark = [pytest.mark.weights, pytest.mark.full, pytest.mark.timeout(600)]  # a minute and a half of reading

Fact = tuple[str, str, str, str]
OTHER_TALK = 20_000  # tokens between the facts and the questions: forty windows
# What is told, what is asked, how the answer is begun, and what it must say.
FACTS: tuple[Fact, ...] = (
    ("My dog is called Biscuit.", "What is my dog called?", "Your dog is called", "Biscuit"),
    ("My sister lives in Budapest.", "Where does my sister live?", "Your sister lives in", "Budapest"),
    ("I work as a dentist.", "What do I work as?", "You work as a", "dentist"),
    ("The code of the garage door is 48213.", "What is the code of the garage door?", "The code is", "48213"),
)
OTHERWISE = ("Rocket", "Marseille", "florist", "90377")  # what is then told of each instead
OF_ONE: tuple[Fact, ...] = (
    ("My sister lives in Budapest.", "Where does my sister live?", "Your sister lives in", "Budapest"),
    ("My sister works as a dentist.", "What does my sister work as?", "Your sister works as a", "dentist"),
    ("My sister's dog is called Biscuit.", "What is my sister's dog called?", "Your sister's dog is called", "Biscuit"),
    ("My sister's birthday is in October.", "When is my sister's birthday?", "Your sister's birthday is in", "October"),
    ("My sister plays chess.", "What does my sister play?", "Your sister plays", "chess"),
)
# Of the four; a guess is right of none. Measured: see `docs/memory.md`.
FREELY, BEGUN = 2, 3


def test_of_facts_told_in_a_chat_most_are_answered_after_much_other_talk_and_a_restart(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    with serving(tmp_path, chunk_tokens="256") as server:
        session = told(server, FACTS)
        told_at = server.session(session)["position"]
        talk = sentences(random.Random(20))  # texts are drawn, not secrets
        while (position := server.session(session)["position"]) < told_at + OTHER_TALK:
            say(server.url, "".join(islice(talk, 60)), session_id=session, max_tokens=4)
        assert server.session(session)["window_start"] > told_at  # nothing of it is in the window any more
        server.stop()
        server.start()
        freely, begun = asked(server, session, lead=False), asked(server, session, lead=True)
        assert server.session(session)["position"] == position
        record_property("freely", freely)
        record_property("begun", begun)
        assert sum(value in text for value, text in freely.items()) >= FREELY, freely
        assert sum(text.strip().startswith(value) for value, text in begun.items()) >= BEGUN, begun
        # It was the memory: without it the same state says none of them.
        httpx.post(f"{server.url}/v1/sessions/{session}/memory/reset", json={"scope": "memory"}).raise_for_status()
        for lead in (False, True):
            for value, text in asked(server, session, lead=lead).items():
                assert value not in text


def test_a_fact_that_is_told_again_otherwise_counts_as_it_was_told_last(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    answers = []
    with serving(tmp_path, chunk_tokens="256") as server:
        for fact, value in zip(FACTS, OTHERWISE, strict=True):
            then = (fact[0].replace(fact[3], value), *fact[1:3], value)
            session = told(server, (fact,))
            talk_past_the_window(server, session)
            say(server.url, then[0], session_id=session, max_tokens=12)
            talk_past_the_window(server, session)
            answers.append((value, asked(server, session, (then,), lead=True)[value]))
    record_property("answers", answers)
    assert sum(text.strip().startswith(value) for value, text in answers) >= 3, answers


def test_several_facts_about_one_subject_are_told_apart(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    with serving(tmp_path, chunk_tokens="256") as server:
        session = told(server, OF_ONE)
        talk_past_the_window(server, session)
        answers = asked(server, session, OF_ONE, lead=True)
    record_property("answers", answers)
    assert sum(text.strip().startswith(value) for value, text in answers.items()) >= 4, answers


def told(server: Serve, facts: tuple[Fact, ...]) -> str:
    """A new session that was told the facts, a turn for each."""
    first, *others = facts
    session: str = say(server.url, first[0], max_tokens=12).start["session"]
    for fact in others:
        say(server.url, fact[0], session_id=session, max_tokens=12)
    return session


def talk_past_the_window(server: Serve, session: str) -> None:
    """Other talk, until nothing that was said before is in the window."""
    said, talk = server.session(session)["position"], sentences(random.Random(20))
    while server.session(session)["window_start"] < said:
        say(server.url, "".join(islice(talk, 30)), session_id=session, max_tokens=4)


def asked(server: Serve, session: str, facts: tuple[Fact, ...] = FACTS, *, lead: bool) -> dict[str, str]:
    """What is answered to each question, by the value it should say. lead: the answer's beginning is given."""
    answers = {}
    for _, question, beginning, value in facts:
        messages = [{"role": "user", "content": question}]
        messages += [{"role": "assistant", "content": beginning}] if lead else []
        answers[value] = generate(
            server.url, messages=messages, session_id=session, temperature=0, max_tokens=8 if lead else 20
        ).text
        httpx.post(f"{server.url}/v1/sessions/{session}/rewind", json={"turns": 1}).raise_for_status()
    return answers
