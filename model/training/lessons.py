"""What a memory is taught with: facts, questions about them in other words, and the beginnings of answers.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests): its names, values, templates and filler
are all different ones. A relation has several wordings of each part, drawn independently, so that what is learned is to
keep what a sentence says and not the sentence.

It knows nothing of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from model.training.relations import ADJECTIVES, PEOPLE, PLACES, ROLES, SURNAMES, THINGS, WRITTEN, Subject
from model.training.relations_made import MADE
from model.training.relations_told import TOLD

RELATIONS = (*WRITTEN, *MADE, *TOLD)
WRITTEN_SHARE, MADE_SHARE = 0.15, 0.2  # of the facts, told by a relation of `WRITTEN`, of `MADE`; the others are `TOLD`

# Around a fact and a question, as plain text and as turns of a chat. {f}: the fact; {q}: the question; {l}: the lead.
TOLD_PLAIN = (" {f}", "\n{f}", " Note: {f}", " It is known that {f}", "\n\n{f} ", " As I said, {f}")
ASKED_PLAIN = (
    "\nQuestion: {q}\nAnswer: {l}",
    "\n\nQ: {q}\nA: {l}",
    " {q} {l}",
    "\n{q}\n{l}",
    " {l}",
    "\nUser: {q}\nAssistant: {l}",
)
TOLD_CHAT = (
    "{f}",
    "Remember this: {f}",
    "By the way, {f}",
    "Just so you know: {f}",
    "{f} Keep it in mind.",
    "Hi! {f}",
    "Something else. {f}",
    "I want to tell you something. {f}",
)
ANSWERED_CHAT = (
    "Okay.",
    "Got it.",
    "Thank you, noted.",
    "Good to know!",
    "Sure, I'll keep that in mind.",
    "Understood.",
)
ASKED_CHAT = ("{q}", "Tell me: {q}", "Do you remember? {q}", "{q} I forgot.", "One question: {q}")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One fact as told, as asked for, and its value, with the beginning of the answer (the lead)."""

    fact: str
    question: str
    lead: str
    value: str
    subject: str
    relation: int


def draw_lessons(rng: random.Random, count: int, relations: Collection[int] | None = None) -> list[Lesson]:
    """`count` facts that do not contradict each other: no two of one relation have the same subject. relations: the
    numbers of those that may be told; all for None."""
    taken: set[tuple[int, str]] = set()
    lessons: list[Lesson] = []
    while len(lessons) < count:
        number = _relation(rng)
        if relations is not None and number not in relations:
            continue
        subject = _subject(rng, RELATIONS[number].subject)
        if (number, subject) in taken:
            continue
        taken.add((number, subject))
        lessons.append(_lesson(rng, number, subject))
    return lessons


def _relation(rng: random.Random) -> int:
    """The number of a relation: first which of the three lists it is of, then which one of that list."""
    draw = rng.random()
    if draw < WRITTEN_SHARE:
        return rng.randrange(len(WRITTEN))
    if draw < WRITTEN_SHARE + MADE_SHARE:
        return len(WRITTEN) + rng.randrange(len(MADE))
    return len(WRITTEN) + len(MADE) + rng.randrange(len(TOLD))


def another_value(rng: random.Random, lesson: Lesson) -> Lesson:
    """The same said again with another value: it is what counts from then on."""
    while (other := _lesson(rng, lesson.relation, lesson.subject)).value == lesson.value:
        pass
    return other


def _lesson(rng: random.Random, number: int, subject: str) -> Lesson:
    relation = RELATIONS[number]
    value = _number(rng, relation.values) if isinstance(relation.values, str) else rng.choice(relation.values)
    fact, question, lead = (rng.choice(wordings) for wordings in (relation.facts, relation.questions, relation.leads))
    fact, question, lead = (_put(wording, subject, value) for wording in (fact, question, lead))
    return Lesson(fact, question, lead, value, subject, number)


def _put(wording: str, subject: str, value: str) -> str:
    text = wording.format(s=subject, v=value)
    return text[:1].upper() + text[1:]


def _subject(rng: random.Random, kind: Subject) -> str:
    if kind == "self":
        return "I"
    if kind == "person":
        draw = rng.random()
        if draw < 0.15:
            return rng.choice(ROLES)
        name = rng.choice(PEOPLE)
        return f"{name} {rng.choice(SURNAMES)}" if draw < 0.3 else name
    if kind == "place":
        return f"{rng.choice(ADJECTIVES)} {rng.choice(PLACES)}"
    return f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)}" if rng.random() < 0.5 else rng.choice(THINGS)


def _number(rng: random.Random, kind: str) -> str:
    if kind == "digits":
        return str(rng.randrange(10 ** (digits := rng.choice((3, 4, 5, 5, 5, 6))) // 10, 10**digits))
    if kind == "year":
        return str(rng.randrange(1500, 2030))
    if kind == "time":
        return f"{rng.randrange(1, 13)}:{rng.randrange(60):02d}"
    return str(rng.randrange(10, 1000 if kind == "price" else 100))
