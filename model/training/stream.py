"""One stream of a text serves every distance: read up to the first, ask, read on to the next.

A distance of d windows is d·W tokens after the last fact, so at d = 1 no token of a question attends to a fact.

Invariants: what is measured depends on seed and text alone, not on how many texts are read side by side, nor on what of
it is done already, which is not measured again; every record is handed over as soon as it is made. (In chat form a
turn ends at every distance asked for, so there another list of distances is another text.)
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any, Protocol

from model.training.needles import Question
from model.training.reading import Answered, Tick, ask, read
from model.training.subject import Bench, Subject, batches

Record = dict[str, Any]
Done = Container[Mapping[str, Any]]


class Told(Protocol):
    """One text with what is asked about it."""

    @property
    def beginning(self) -> Sequence[int]:
        """Tokens up to and with the last fact."""
        ...

    @property
    def questions(self) -> Sequence[Question]:
        """What is asked."""
        ...

    def between(self, tokens: int) -> Iterator[int]:
        """The next so many tokens of what follows."""
        ...


class Cell(Protocol):
    """Texts of one kind, and the distances (in windows, ascending) at which they are asked about."""

    @property
    def title(self) -> str:
        """For the progress bar."""
        ...

    @property
    def distances(self) -> tuple[int, ...]:
        """In windows, ascending."""
        ...

    @property
    def stories(self) -> tuple[int, ...]:
        """Numbers of the texts."""
        ...

    def key(self, bench: Bench, condition: str, distance: int, story: int) -> Record:
        """What a record is of."""
        ...

    def told(self, bench: Bench, number: int) -> Told:
        """One text."""
        ...

    def asked(self) -> int:
        """About how many tokens the questions about one text take."""
        ...


def missing(cell: Cell, conditions: Collection[str], bench: Bench, done: Done) -> dict[int, list[int]]:
    """Of each text that is not done, the distances that are still to be measured."""
    left = {
        number: [d for d in cell.distances if any(cell.key(bench, c, d, number) not in done for c in conditions)]
        for number in cell.stories
    }
    return {number: distances for number, distances in left.items() if distances}


def longest(cell: Cell, bench: Bench, distance: int) -> int:
    """Tokens of the longest of the texts with its longest question, at a distance (in windows)."""
    texts = [cell.told(bench, number) for number in cell.stories]
    return distance * bench.window + max(
        len(text.beginning) + max(len(q.prompt) + len(q.answer) for q in text.questions) for text in texts
    )


def cost(cell: Cell, conditions: Collection[str], bench: Bench, done: Done) -> int:
    """About how many tokens `measure` will read."""
    asked = len(conditions) * cell.asked()
    return sum(d[-1] * bench.window + len(d) * asked for d in missing(cell, conditions, bench, done).values())


def measure(cell: Cell, subject: Subject, bench: Bench, done: Done, tick: Tick) -> Iterator[list[Record]]:
    """Records as they come, those of several texts at one distance and under one condition together."""
    left = missing(cell, subject.conditions, bench, done)
    if not left:
        return
    state, scratch = subject.states(bench, min(len(left), bench.rows), 2 * bench.rows)
    for numbers in batches(list(left), state.rows):
        rows = state.slice(0, len(numbers))
        rows.clear()
        texts = [cell.told(bench, number) for number in numbers]
        read(subject.model, rows, [text.beginning for text in texts], bench.chunk, tick)
        wanted = {d for number in numbers for d in left[number]}
        at = 0
        for distance in (d for d in cell.distances if d <= max(wanted)):
            step = (distance - at) * bench.window
            read(subject.model, rows, [text.between(step) for text in texts], bench.chunk, tick)
            at = distance
            if distance not in wanted:
                continue
            for condition, treatment in subject.conditions.items():
                answers = ask(subject.model, rows, [text.questions for text in texts], treatment, scratch, tick)
                yield [
                    cell.key(bench, condition, distance, number) | sums(answered)
                    for number, answered in zip(numbers, answers, strict=True)
                ]


def sums(answered: Sequence[Answered]) -> Record:
    """What is kept of a text's answers."""
    return {
        "asked": len(answered),
        "exact": sum(one.exact for one in answered),
        "among": sum(one.among for one in answered),
        "tokens": sum(one.tokens for one in answered),
        "hits": sum(one.hits for one in answered),
        "nll": sum(one.nll for one in answered),
    }
