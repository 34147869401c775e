"""Part (a), and (d) beside it: recall of facts told so many windows ago (`needles`, streamed by `stream`)."""

from __future__ import annotations

from dataclasses import dataclass

from model.training.filler import Filler
from model.training.filler import Kind as FillerKind
from model.training.held_out import TEMPLATES, Template
from model.training.needles import Form, Story
from model.training.stream import Record
from model.training.subject import Bench

QUESTION = 40  # tokens of a question and its answer, about: for estimates


@dataclass(frozen=True, slots=True)
class Recall:
    """One kind of story, at several distances. Implements `stream.Cell`."""

    form: Form
    filler: FillerKind
    facts: int
    distances: tuple[int, ...]
    stories: tuple[int, ...]
    templates: tuple[Template, ...] = TEMPLATES

    @property
    def title(self) -> str:
        """See `stream.Cell`."""
        return f"recall, {self.form}, {self.filler}, {self.facts} facts"

    def key(self, bench: Bench, condition: str, distance: int, story: int) -> Record:
        """See `stream.Cell`."""
        return {
            "part": "recall",
            "condition": condition,
            "form": self.form,
            "filler": Filler(self.filler, bench.tokenizer, bench.corpus).name,
            "facts": self.facts,
            "templates": "all" if self.templates == TEMPLATES else " ".join(t.name for t in self.templates),
            "window": bench.window,
            "distance": distance,
            "seed": bench.seed,
            "story": story,
        }

    def told(self, bench: Bench, number: int) -> Story:
        """One story. Raises `NeedleError`."""
        filler = Filler(self.filler, bench.tokenizer, bench.corpus)
        return Story(bench.tokenizer, filler, self.form, self.facts, bench.seed, number, self.templates)

    def asked(self) -> int:
        """See `stream.Cell`."""
        return self.facts * QUESTION
