"""What is said and when: every text, length and arrival is a function of a seed, so a run can be had again.

Invariant: a turn depends on (seed, conversation, number) alone, never on what was answered or how fast.

It knows nothing of servers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

# Plain words that any tokeniser knows; most are one token each.
_WORDS = (
    "a about after again air all almost along also always and another any are around as ask at away back be because "
    "been before began begin between book both boy but by call came can car change city close cold come could country "
    "cut day did different do does door down draw each early earth east eat end even every eye face family far father "
    "feel feet few find fire first five follow food for four from full game gave get give go good great green ground "
    "group grow had half hand hard has have he head hear help her here high him his hold home horse hour house how i "
    "idea if important in into is it just keep kind king know land large last late learn leave left less let letter "
    "life light like line list little live long look low made make man many may me mean men might mile more morning "
    "most mother mountain move much music must my name near need never new next night no north not note nothing now "
    "number of off often old on once one only open or order other our out over own page paper part people picture "
    "place plan plant play point power problem question quick rain ran reach read real red rest right river road rock "
    "room round rule run said same saw say school sea second see seem self sentence set several she ship short should "
    "show side simple since sing sit six sky sleep slow small snow so some song soon sound south space stand star "
    "start state stay step still stop story street strong study such sun sure table take talk teach tell ten than "
    "that the their them then there these they thing think this those though thought three through time to together "
    "too took top toward town travel tree true try turn two under until up upon us use usual very voice walk want war "
    "warm was watch water way we week well went were west what wheel when where which while white who why will wind "
    "with wood word work world would write year yes yet you young your"
)
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True, slots=True)
class Range:
    """A whole number between two, both included; any is as likely as any other."""

    least: int
    most: int

    def draw(self, rng: random.Random) -> int:
        """One of them."""
        return rng.randint(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user says, and how long an answer is asked for. number: of the conversation's turns, from 0."""

    conversation: int
    number: int
    text: str
    max_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Conversations of `turns` turns. words: of what a user says each time. tokens: the most an answer may have."""

    turns: int
    words: Range
    tokens: Range
    seed: int = 0

    def turn(self, conversation: int, number: int) -> Turn:
        """One turn."""
        rng = random.Random(f"{self.seed}/{conversation}/{number}")
        text = " ".join(rng.choices(WORDS, k=self.words.draw(rng)))
        return Turn(conversation, number, f"{text}.", self.tokens.draw(rng), rng.getrandbits(31))


def arrivals(rate: float, duration_s: float, seed: int) -> Iterator[float]:
    """When each conversation begins, s from the run's beginning: a Poisson process of `rate` a second."""
    rng, at = random.Random(f"{seed}/arrivals"), 0.0
    while (at := at + rng.expovariate(rate)) < duration_s:
        yield at
