"""What is measured, and how: the model with its memory, and what it is compared with.

Three subjects of the same weights: the model as it is served (`own`), the same without any memory (`window`, the
window-only base), and the same without memory and with a window over the whole text (`full` attention). A condition is
a subject with something done to its memory just before the question (`reading.Treatment`), and is what reports name.

It knows nothing of needles or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from model.state import Model, State
from model.svd_clean import Cut
from model.tokenizer import Tokenizer
from model.training.corpus import Corpus
from model.training.reading import Tick, Treatment, rows_for

Kind = Literal["own", "window", "full"]
MEMORY, ZEROED, WINDOW, FULL = "memory", "zeroed", "window only", "full attention"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements of a run share. window: W of the model as served; rows: texts read side by side, fewer
    where their states would take more than state_bytes."""

    tokenizer: Tokenizer
    corpus: Corpus | None
    window: int
    seed: int
    chunk: int
    rows: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Subject:
    """One model to be measured. conditions: what it is measured under, by name."""

    model: Model
    conditions: Mapping[str, Treatment]

    def states(self, bench: Bench, texts: int, questions: int) -> tuple[State, State]:
        """Empty states to read texts into, and as scratch for questions: as many as are wanted and fit, at least one
        of each."""
        fit = rows_for(self.model, texts + questions + 1, bench.state_bytes) - 1  # one is for what is treated
        texts = max(1, min(texts, fit // 2))
        questions = max(1, min(questions, fit - texts))
        spec, device = self.model.spec, self.model.device
        return State.zeros(spec, texts, device), State.zeros(spec, questions, device)


def label(cut: Cut) -> str:
    """A cleaning as reports name it."""
    kept = "all" if cut.energy_threshold == 1.0 else f"{cut.energy_threshold:g}"
    return f"cleaned: keep {kept}" + (f", drop {cut.drop_top}" if cut.drop_top else "")


def batches(numbers: Sequence[int], rows: int) -> list[list[int]]:
    """Numbers of texts, as many at a time as there are rows."""
    return [list(numbers[at : at + rows]) for at in range(0, len(numbers), rows)]


def ignore(_: int) -> None:
    """A tick that nobody counts."""


__all__ = ["FULL", "MEMORY", "WINDOW", "ZEROED", "Bench", "Kind", "Subject", "Tick", "batches", "ignore", "label"]
