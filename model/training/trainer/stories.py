"""Stories for a memory to learn from: facts among filler, questions at the end, each at least a window after its fact.

Some are plain text, some turns of the model's own chat template; a fact is sometimes told again with another value, and
then the newest counts. Nothing here is the evaluation's (`model.training.held_out`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.tokenizer import Tokenizer
from model.training.lessons import (
    ANSWERED_CHAT,
    ASKED_CHAT,
    ASKED_PLAIN,
    TOLD_CHAT,
    TOLD_PLAIN,
    Lesson,
    another_value,
    draw_lessons,
)
from model.training.needles import Frame, common, frame_or_none
from model.training.trainer import texts
from model.training.trainer.settings import TrainingError

CHAT = 0.5  # of the stories, where the model has a chat template that keeps turns apart
CORRECTED = 0.15  # of the facts
FIRST = 8  # tokens of filler before anything else, so that no fact lies among the sinks


@dataclass(frozen=True, slots=True)
class Story:
    """One story. answers: places whose next token is of an answer; sizes: how many of them each answer has; filler:
    places of neither facts, questions nor answers."""

    tokens: tuple[int, ...]
    answers: tuple[int, ...]
    sizes: tuple[int, ...]
    filler: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Tokens of a question: what stands before the answer, the answer's beginning (where the model is to begin it: in a
    chat), and the rest of it: the value, and what ends it."""

    before: tuple[int, ...]
    lead: tuple[int, ...]
    value: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All of it."""
        return self.before + self.lead + self.value


class Stories:
    """Draws stories. text: filler, as tokens (N,)."""

    def __init__(self, tokenizer: Tokenizer, text: NDArray[np.int32]) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._frame = frame_or_none(tokenizer)

    def form(self, rng: random.Random) -> Frame | None:
        """How the next story is told: in turns of a chat, or (None) as plain text."""
        return self._frame if rng.random() < CHAT else None

    def plain(self, rng: random.Random, rows: int, length: int) -> Tensor:
        """(rows, length) int64 of filler."""
        return texts.rows(self._text, [rng.randrange(len(self._text)) for _ in range(rows)], length)

    def draw(self, rng: random.Random, length: int, facts: int, window: int) -> Story:
        """A story of `length` tokens with so many facts. Raises `TrainingError` where they don't fit."""
        chat = self.form(rng)
        told, asked = [], []
        for lesson in draw_lessons(rng, facts):
            newest = lesson
            if rng.random() < CORRECTED:
                told.append(self.tell(rng, lesson, chat))
                newest = another_value(rng, lesson)
            told.append(self.tell(rng, newest, chat))
            asked.append(self.ask(rng, newest, chat))
        rng.shuffle(asked)
        end = sum(len(one.tokens) for one in asked)
        spare = length - end - sum(map(len, told))
        # The filler before the last fact; what comes after it is a window at least.
        before = spare - window
        if before < FIRST:
            raise TrainingError(
                f"tokens: {facts} facts with their questions and a window of {window} do not fit in {length}: "
                f"{FIRST - before} more are needed"
            )
        cuts = sorted(rng.randint(FIRST, before) for _ in told)
        filler = self.plain(rng, 1, spare)[0].tolist()
        tokens: list[int] = []
        free: list[int] = []
        at = 0
        for cut, piece in zip(cuts, told, strict=True):
            free += range(len(tokens), len(tokens) + cut - at)
            tokens += filler[at:cut]
            tokens += piece
            at = cut
        free += range(len(tokens), len(tokens) + spare - at - 1)
        tokens += filler[at:]
        answers: list[int] = []
        for one in asked:
            tokens += one.tokens
            answers += range(len(tokens) - len(one.value) - 1, len(tokens) - 1)
        return Story(tuple(tokens), tuple(answers), tuple(len(one.value) for one in asked), tuple(free))

    def copy(self, rng: random.Random, length: int, window: int) -> Story:
        """A text of `length` tokens that says itself twice: the second time every token is an answer, which the
        window no longer holds. Raises `TrainingError` where half of it is not longer than the window."""
        half = length // 2
        if half <= max(window, FIRST):
            raise TrainingError(
                f"tokens: half of a text of {length} that says itself twice is not longer than a window of {window}"
            )
        said = self.plain(rng, 1, half)[0].tolist()
        answers = tuple(range(half + FIRST - 1, 2 * half - 1))
        return Story((*said, *said), answers, (len(answers),), ())

    def tell(self, rng: random.Random, lesson: Lesson, chat: Frame | None) -> list[int]:
        """A fact, as text or as a turn that is answered."""
        if chat is None:
            return self._encode(rng.choice(TOLD_PLAIN).format(f=lesson.fact))
        said, answered = rng.choice(TOLD_CHAT).format(f=lesson.fact), rng.choice(ANSWERED_CHAT)
        return [*chat.turn(self._encode(said), self._encode(answered))]

    def ask(self, rng: random.Random, lesson: Lesson, chat: Frame | None) -> Question:
        """A question about a fact."""
        if chat is None:
            before: tuple[int, ...] = ()
            opened = rng.choice(ASKED_PLAIN).format(q=lesson.question, l=lesson.lead)
        else:
            before = chat.asked(self._encode(rng.choice(ASKED_CHAT).format(q=lesson.question)))
            opened = lesson.lead
        known, whole = self._encode(opened), self._encode(f"{opened} {lesson.value}.")
        prompt = common(whole, known)
        lead, value = tuple(prompt), tuple(whole[len(prompt) :])
        return Question((*before, *lead), (), value) if chat is None else Question(before, lead, value)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, specials=False)
