"""What is to be measured of which subject, in which order, within which bounds.

It reads no model: what a step costs is known from the texts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from model.memory import Scope
from model.svd_clean import Cut
from model.training import stream
from model.training.associative import Associative
from model.training.needles import NeedleError, choose_templates
from model.training.options import Options
from model.training.perplexity import Perplexity
from model.training.reading import Treatment
from model.training.recall import Recall
from model.training.subject import FULL, MEMORY, WINDOW, ZEROED, Bench, Kind, label

Task = Recall | Associative | Perplexity
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One task of one subject, under some conditions."""

    kind: Kind
    task: Task
    conditions: Mapping[str, Treatment]

    def cost(self, bench: Bench, done: stream.Done) -> int:
        """About how many tokens are still to be read for it."""
        if isinstance(self.task, Perplexity):
            return self.task.cost(self.conditions, bench, done)
        return stream.cost(self.task, self.conditions, bench, done)

    def reach(self, bench: Bench) -> int:
        """How far it reads: tokens of its longest text, nearly."""
        if isinstance(self.task, Perplexity):
            return self.task.positions
        return self.task.distances[-1] * bench.window if self.task.distances else 0

    def nearer(self) -> Step:
        """The same without its farthest distance, or its last bucket."""
        if isinstance(self.task, Perplexity):
            return replace(self, task=self.task.within(self.task.positions - 1))
        return replace(self, task=replace(self.task, distances=self.task.distances[:-1]))

    def within(self, tokens: int, bench: Bench) -> Step:
        """The same as far as its texts fit in so many tokens."""
        if isinstance(self.task, Perplexity):
            return replace(self, task=self.task.within(tokens))
        fit = tuple(d for d in self.task.distances if stream.longest(self.task, bench, d) <= tokens)
        return replace(self, task=replace(self.task, distances=fit))

    def longest(self, bench: Bench) -> int:
        """Tokens of its longest text."""
        if isinstance(self.task, Perplexity):
            return self.task.positions
        return stream.longest(self.task, bench, self.task.distances[-1])


def steps(options: Options, bench: Bench, *, remembers: bool, say: Say) -> list[Step]:
    """All that the options ask for, near things first. remembers: whether the model has memory layers at all.

    What cannot be told (a chat, to a model without a chat template) is left out, and `say` says why.
    """
    planned = []
    tasks = list(_tasks(options, bench, say))
    kinds: list[Kind] = ["own", *(kind for kind in ("window", "full") if kind in options.against)]
    for kind in kinds:
        for task in tasks:
            conditions = _conditions(kind, task, options, remembers)
            step = Step(kind, task, conditions)
            if kind == "full":
                step = step.within(options.full_attention_tokens, bench)
            if conditions and step.reach(bench):
                planned.append(step)
    return planned


def within_budget(planned: list[Step], budget: int, bench: Bench, done: stream.Done, say: Say) -> list[Step]:
    """The steps without the farthest distances, until what is to be read is within a budget of tokens (0: any)."""
    while budget and planned and sum(step.cost(bench, done) for step in planned) > budget:
        far = max(step.reach(bench) for step in planned)
        say(f"left out, over the budget of {budget:,} tokens: what reads {far:,} tokens of a text")
        planned = [step.nearer() if step.reach(bench) == far else step for step in planned]
        planned = [step for step in planned if step.reach(bench)]
    return planned


def _tasks(options: Options, bench: Bench, say: Say) -> Iterator[Task]:
    stories = tuple(range(options.stories))
    templates = choose_templates(options.templates)
    if "recall" in options.parts or "clean" in options.parts:
        for form in options.forms:
            for filler in options.fillers:
                for facts in options.facts:
                    cell = Recall(form, filler, facts, options.distances, stories, templates)  # type: ignore[arg-type]
                    try:
                        _try(cell, bench)
                    except NeedleError as e:
                        say(f"left out, {cell.title}: {e}")
                    else:
                        yield cell
    if "mqar" in options.parts:
        for pairs in options.pairs:
            yield Associative(pairs, options.distances, stories)
    if "perplexity" in options.parts:
        yield Perplexity(options.perplexity_tokens, options.perplexity_judged, tuple(range(options.perplexity_texts)))


def _try(cell: Recall, bench: Bench) -> None:
    """Tell the first story, and a token of what follows up to each distance. Raises `NeedleError`."""
    before = 0
    for distance in cell.distances:
        list(islice(cell.told(bench, 0).between((distance - before) * bench.window), 1))
        before = distance


def _conditions(kind: Kind, task: Task, options: Options, remembers: bool) -> dict[str, Treatment]:
    if kind == "window":
        return {WINDOW: None}
    if kind == "full":
        return {FULL: None}
    conditions: dict[str, Treatment] = {MEMORY: None}
    if isinstance(task, Perplexity) or not remembers:
        return conditions
    if isinstance(task, Associative) or "recall" in options.parts:
        conditions[ZEROED] = Scope.MEMORY
    if isinstance(task, Recall) and "clean" in options.parts:
        cuts = [Cut(energy, None, drop) for energy, drop in options.cuts]
        conditions |= {label(cut): cut for cut in cuts}
    return conditions
