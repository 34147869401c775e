"""Stories: facts told, filler of exactly so many tokens, and a question about each fact.

A story's beginning (some filler, then the facts with a little filler between them) is tokens; the rest is made as it is
read, so that a story of a million tokens costs no more than one of a thousand. Distances are exact: between the end of
the beginning and the first token of a question there are as many tokens as were asked for, in chat form whole turns.

Questions are put one at a time, each to the story as it stands at a distance, so no question sees another. The answer's
beginning is given (`Template.lead`); what is scored are the tokens of the value that show (a space before it does not).

Invariants: a story is fixed by (seed, its number, form, number of facts, filler); facts of a story differ in their
subjects and their values; no fact lies among a model's sinks (`LEAST` tokens come first).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from model.chat import ChatError, Message
from model.tokenizer import Tokenizer
from model.training.draws import draws
from model.training.filler import Filler
from model.training.held_out import (
    ADJECTIVES,
    DIGITS,
    HEARD,
    PEOPLE,
    PLACES,
    PLAIN_QUESTION,
    TELL,
    TEMPLATES,
    TOLD,
    Template,
)

Form = Literal["plain", "chat"]
LEAST = 24  # tokens of filler before the first fact
GAP = (4, 32)  # tokens of filler between two facts, plain form
MORE = 160  # tokens of filler in a turn of a chat, beside what the template puts around it
MOST_FACTS = 64


class NeedleError(ValueError):
    """A story cannot be told this way; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question. scored: which tokens of the answer count. among: the tokens that could be meant; all for none."""

    template: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    scored: tuple[bool, ...]
    among: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact, as it is told and asked for."""

    template: Template
    subject: str
    value: str

    def put(self, text: str) -> str:
        """The text with its blanks filled."""
        return text.format(subject=self.subject, value=self.value)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a chat template puts around what a user says, as tokens.

    first, head: before it, in the first turn and in later ones; tail: after it, up to where the assistant begins; end:
    what ends the assistant's turn.
    """

    first: tuple[int, ...]
    head: tuple[int, ...]
    tail: tuple[int, ...]
    end: tuple[int, ...]

    def asked(self, said: Sequence[int], *, first: bool = False) -> tuple[int, ...]:
        """What the user says, up to where the assistant begins; first: in the first turn."""
        return (*(self.first if first else self.head), *said, *self.tail)

    def turn(self, said: Sequence[int], answer: Sequence[int], *, first: bool = False) -> tuple[int, ...]:
        """A whole turn."""
        return (*self.asked(said, first=first), *answer, *self.end)


def frame(tokenizer: Tokenizer) -> Frame:
    """The frame of a model's chat template. Raises `NeedleError` where there is none that keeps turns apart."""
    chat = tokenizer.chat
    if chat is None:
        raise NeedleError("this model has no chat template: only --forms plain can be told")
    if chat.end_id is None or not chat.stable:
        raise NeedleError(
            f"facts cannot be told as turns of this model's chat template: {chat.why or 'turns are open'}"
        )
    said: list[list[Message]] = [[{"role": "user", "content": text}] for text in ("Yes", "But")]
    try:
        first, other = (chat.render_first(m) for m in said)
        later, another = (chat.render_next(m, after="eos") for m in said)
    except ChatError as e:
        raise NeedleError(f"the chat template does not take a plain user turn: {e}") from e
    tail = common(first[::-1], other[::-1])[::-1]
    return Frame(tuple(common(first, other)), tuple(common(later, another)), tuple(tail), (chat.end_id,))


def frame_or_none(tokenizer: Tokenizer) -> Frame | None:
    """The frame of a model's chat template; None where it has none that keeps turns apart."""
    try:
        return frame(tokenizer)
    except NeedleError:
        return None


def common(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """The beginning that both have."""
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return list(a[:n])


class Story:
    """One story; see the module. beginning: up to and with the last fact. fact_ends: where in it each fact's tokens
    end (exclusive). questions: one for each fact, in the order they were told."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        filler: Filler,
        form: Form,
        facts: int,
        seed: int,
        number: int,
        templates: Sequence[Template] = TEMPLATES,
    ) -> None:
        """Raises `NeedleError` for more facts than there are subjects, or a model without a chat template."""
        self._tokenizer = tokenizer
        self._frame = frame(tokenizer) if form == "chat" else None
        self._filler = filler.tokens(draws(seed, number, "filler"))
        rng = draws(seed, number, "facts")
        self.facts = draw_facts(rng, facts, templates)
        beginning = list(self._opening())
        ends = []
        for i, fact in enumerate(self.facts):
            told = fact.put(fact.template.fact)
            if self._frame is None:
                gap = rng.randint(*GAP) if i else 0
                beginning += [*islice(self._filler, gap), *self._encode(f" {told}")]
            else:
                beginning += self._turn(self._encode(TELL.format(fact=told)), TOLD)
            ends.append(len(beginning))
        self.beginning, self.fact_ends = tuple(beginning), tuple(ends)
        self.questions = tuple(self._question(fact) for fact in self.facts)

    def between(self, tokens: int) -> Iterator[int]:
        """The next `tokens` tokens of filler, exactly; in chat form whole turns. Raises `NeedleError` for too few."""
        if self._frame is None:
            yield from islice(self._filler, tokens)
            return
        around = len(self._turn((), HEARD))
        if 0 < tokens <= around:
            raise NeedleError(f"a turn of this chat takes {around} tokens beside its text: {tokens} are too few")
        while tokens > 0:
            # A last turn that would be all frame is joined with the one before.
            size = tokens if tokens <= 2 * around + MORE else around + MORE
            yield from self._turn(tuple(islice(self._filler, size - around)), HEARD)
            tokens -= size

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, specials=False))

    def _opening(self) -> Iterator[int]:
        tokenizer = self._tokenizer
        if tokenizer.add_bos and tokenizer.bos_id is not None and self._frame is None:
            yield tokenizer.bos_id
        some = tuple(islice(self._filler, LEAST))
        if self._frame is None:
            yield from some
        else:
            yield from self._frame.turn(some, self._encode(HEARD), first=True)

    def _turn(self, said: tuple[int, ...], answer: str) -> tuple[int, ...]:
        assert self._frame is not None
        return self._frame.turn(said, self._encode(answer))

    def _question(self, fact: Fact) -> Question:
        asked, lead = fact.put(fact.template.question), fact.put(fact.template.lead)
        before: tuple[int, ...] = ()
        if self._frame is None:
            opened = PLAIN_QUESTION.format(question=asked, lead=lead)
        else:
            before, opened = self._frame.asked(self._encode(asked)), lead
        whole, known = self._encode(f"{opened} {fact.value}"), self._encode(opened)
        prompt = tuple(common(whole, known))
        answer = whole[len(prompt) :]
        scored = tuple(bool(self._tokenizer.piece(token).strip()) for token in answer)
        return Question(fact.template.name, (*before, *prompt), answer, scored)


def draw_facts(rng: random.Random, count: int, templates: Sequence[Template] = TEMPLATES) -> tuple[Fact, ...]:
    """`count` facts, templates in turn from one drawn, subjects and values all different. Raises `NeedleError`."""
    if not 1 <= count <= MOST_FACTS:
        raise NeedleError(f"a story tells 1 to {MOST_FACTS} facts, not {count}")
    people = rng.sample(PEOPLE, len(PEOPLE))
    places = rng.sample([f"{a} {p}" for a in ADJECTIVES for p in PLACES], MOST_FACTS)
    numbers = rng.sample(range(10 ** (DIGITS - 1), 10**DIGITS), MOST_FACTS)
    left = {t.name: rng.sample(t.values, len(t.values)) for t in templates if t.values is not None}
    first, facts = rng.randrange(len(templates)), []
    for i in range(count):
        template = templates[(first + i) % len(templates)]
        subjects = people if template.subject == "person" else places
        values = left.get(template.name, numbers)
        if not subjects or not values:
            raise NeedleError(f"{count} facts are more than template {template.name!r} has subjects and values for")
        facts.append(Fact(template, subjects.pop(), str(values.pop())))
    return tuple(facts)


def choose_templates(names: Sequence[str]) -> tuple[Template, ...]:
    """Templates by name; all of them for none. Raises `NeedleError` naming one that there is not."""
    known = {template.name: template for template in TEMPLATES}
    if strange := [name for name in names if name not in known]:
        raise NeedleError(f"there is no template {strange[0]!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in names) or TEMPLATES
