"""The memory of a model that can already read and answer: facts told, filler, questions beyond the window.

The memory alone is trained (with `lora`, small changes of the model's own products too). The terms of the loss are in
`settings.Weights`: what the model says at the answers; what each memory's read alone would say there, through the
final norm and head, which gives it a gradient from the first step; the next tokens of a sample of the other text; and
an L1 on what is written to filler, so that writing becomes rare.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from model.senri_config import Config
from model.state import State, as_rows
from model.tokenizer import load_tokenizer
from model.training.draws import draws
from model.training.trainer import checkpoint, lora, texts
from model.training.trainer.beginning import begin_memory
from model.training.trainer.optimise import Group
from model.training.trainer.settings import Recall, TrainingError
from model.training.trainer.stories import Stories, Story
from model.training.trainer.story_figures import exact, places_of
from model.training.trainer.task import Figures, device_of, products_in, reached
from model.unroll import Unroll, Unrolled, fill
from model.weights import Checkpoint, open_checkpoint

TEXT = 32  # places of a row, beside the answers, whose next token counts


class RecallTask:
    """Implements `task.Task`."""

    def __init__(self, settings: Recall) -> None:
        """Raises `TrainingError`, `WeightsError`, `TokenizerError`."""
        s, m = settings, settings.memory
        self.settings = s
        opened = open_checkpoint(s.base)
        self.base = opened
        self.config = Config.from_hf(opened.config, sliding_window_size=max(s.windows), **m.fields())
        layers = frozenset(m.layers)
        self.device = device_of(s.device)
        self.model = _load(self.config, opened, layers)
        tokenizer = load_tokenizer(s.base, None)
        text = texts.encode(tokenizer, texts.characters(s.corpus, s.characters), s.characters)
        if len(text) <= 2 * max(s.tokens):
            raise TrainingError(f"the text has {len(text):,} tokens: too few for tokens={max(s.tokens)}")
        self.stories = Stories(tokenizer, text)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._low_rank = lora.add(self.model, s.lora.rank, s.seed) if s.lora else {}
        self._memories = {n: p for n, p in self.model.named_parameters() if ".memory." in n}
        for parameter in self._memories.values():
            parameter.requires_grad_(True)
        self.model.to(self.device)
        self._views = {window: self._view(window) for window in sorted(set(s.windows))}
        begin_memory(self.model, self.stories.plain(draws(s.seed, "beginning"), 8, 192).to(self.device), m, s.seed)
        self._left: dict[str, Tensor] = {}

    def _view(self, window: int) -> Unroll:
        """The same parameters with another window."""
        config = replace(self.config, sliding_window_size=window)
        with torch.device("meta"):
            view = Unroll(config, frozenset(config.memory_layers))
        if self._low_rank:
            lora.share(self.model, view)
        view.load_state_dict(self.model.state_dict(keep_vars=True), assign=True)
        return view

    @property
    def groups(self) -> Sequence[Group]:
        """The memories; their write strengths, which learn faster and never decay; what LoRA adds, later."""
        s = self.settings
        gates = {n: p for n, p in self._memories.items() if ".b_proj." in n}
        rest = {n: p for n, p in self._memories.items() if n not in gates}
        groups = [Group(rest, decay=False), Group(gates, lr=s.gate_lr, decay=False)]
        if s.lora:
            groups.append(Group(self._low_rank, lr=s.lora.lr, decay=False, after=s.lora.after))
        return groups

    def loss(self, step: int, micro: int) -> tuple[Tensor, Figures, int]:
        """See `Task.loss`."""
        s = self.settings
        rng = draws(s.seed, step, micro, "shape")
        window, length = rng.choice(s.windows), rng.choice(reached(s.tokens, step, s.curriculum))
        facts = rng.randint(*s.facts)
        drawn = [self._draw(draws(s.seed, step, micro, b, "story"), length, facts, window) for b in range(s.rows)]
        passed = torch.tensor([rng.random() < s.passing for _ in drawn], device=self.device)
        loss, figures, after = self._judge(drawn, window, passed, draws(s.seed, step, micro, "text"), step)
        if s.passing:
            self._left = {n: leaf.detach() for n, leaf in after.items() if n.partition(".")[0] in ("M", "writes")}
        return loss, figures, sum(len(story.tokens) for story in drawn)

    def _draw(self, rng: random.Random, length: int, facts: int, window: int) -> Story:
        # Nothing is drawn where there are none: stories are those of runs that knew of no copies.
        if self.settings.copies and rng.random() < self.settings.copies:
            return self.stories.copy(rng, length, window)
        return self.stories.draw(rng, length, facts, window)

    def _begin(self, view: Unroll, rows: int, passed: Tensor) -> State:
        """Empty states, but for the rows that begin with the memory the row before them left in the last step."""
        state = State.zeros(view.spec, rows, self.device)
        if not self._left or not bool(passed.any()):
            return state
        leaves = dict(state)
        for name, left in self._left.items():
            mine = passed.view(-1, *[1] * (left.dim() - 1))
            leaves[name] = torch.where(mine, left.roll(1, dims=0), leaves[name])
        return State(state.spec, leaves)

    def _judge(
        self, stories: Sequence[Story], window: int, passed: Tensor, rng: Any, step: int
    ) -> tuple[Tensor, Figures, State]:
        s, w, view = self.settings, self.settings.weights, self._views[window]
        tokens, lengths = (t.to(self.device) for t in as_rows([story.tokens for story in stories]))
        with products_in(s.dtype, self.device):
            out = view.hidden(
                tokens,
                lengths,
                self._begin(view, len(stories), passed),
                checkpoint=s.checkpoint and torch.is_grad_enabled(),
                trace=True,
            )
        assert out.trace is not None
        rows, places = places_of([story.answers for story in stories], self.device)
        wanted = tokens[rows, places + 1]
        said = view.head(out.hidden[rows, places])
        answers = cross_entropy(said, wanted)
        right = said.argmax(-1) == wanted
        figures = {"answers": float(answers.detach()), "right": float(right.float().mean())}
        figures["exact"] = exact(right.tolist(), [story.sizes for story in stories])
        loss = w.answers * answers
        if w.read:
            read = self._read_alone(view, out, rows, places, wanted)
            loss, figures["read"] = loss + w.read * read, float(read.detach())
        if w.text:
            other = [rng.sample(story.filler, min(TEXT, len(story.filler))) for story in stories]
            rows, places = places_of(other, self.device)
            if len(rows):
                text = cross_entropy(view.head(out.hidden[rows, places]), tokens[rows, places + 1])
                loss, figures["text"] = loss + w.text * text, float(text.detach())
        rows, places = places_of([story.filler for story in stories], self.device)
        if not len(rows):  # only texts that say themselves twice
            return loss, figures, out.state
        beta = torch.stack([b[rows, places].mean() for b in out.trace.beta.values()]).mean()
        figures["beta"] = float(beta.detach())
        if w.beta and step >= w.beta_from:
            loss = loss + w.beta * beta
        return loss, figures, out.state

    def _read_alone(self, view: Unroll, out: Unrolled, rows: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        assert out.trace is not None
        each = [
            cross_entropy(view.head(view.model.norm(read[rows, places])), wanted) for read in out.trace.reads.values()
        ]
        return torch.stack(each).mean()

    @torch.no_grad()
    def evaluate(self) -> Figures:
        """Stories never trained on, of the longest kind at the largest window; `zeroed`: the same without memory."""
        s = self.settings
        window, length = max(s.windows), max(s.tokens)
        stories = [self.stories.draw(draws("held out", s.seed, b), length, s.facts[1], window) for b in range(s.judged)]
        nobody = torch.zeros(len(stories), dtype=torch.bool, device=self.device)
        _, figures, _ = self._judge(stories, window, nobody, draws("held out", s.seed, "text"), 0)
        return {"loss": figures["answers"], **{n: v for n, v in figures.items() if n != "answers"}}

    def carried(self) -> dict[str, Tensor]:
        """The memories that the last step left."""
        return self._left

    def resume(self, carried: Mapping[str, Tensor]) -> None:
        """See `Task.resume`."""
        self._left = {name: leaf.to(self.device) for name, leaf in carried.items()}

    def export(self, folder: Path, card: Mapping[str, Any]) -> None:
        """The memory's weights, to be laid over the base model; with `lora` the changed products too."""
        tensors = checkpoint.tensors_of(self.model)
        changed = {name.partition(".parametrizations.")[0] + ".weight" for name in self._low_rank}
        kept = {n: t for n, t in tensors.items() if ".memory." in n or n in changed}
        checkpoint.write_memory(folder, self.config, kept, self.base.fingerprint, card)


def _load(config: Config, opened: Checkpoint, layers: frozenset[int]) -> Unroll:
    """The base model as float32, with new memories."""
    model = Unroll(config, layers)
    fill(model, opened)
    return model
