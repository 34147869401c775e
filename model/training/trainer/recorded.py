"""A memory that is read at the end, trained on recordings: the base model is asked once, and the memory learns alone.

The layers of a model whose memories are read at the end (`Config.memory_reads`) compute the same whatever is
remembered. So their inputs are recorded once (`recording`), texts are put together from what was recorded (`excerpts`),
and a step costs the memory's own few products: some ten times as many tokens a second as through the whole model.

What is not as it will be: an excerpt was read with its own beginning in the window, not with what a text puts before
it. Figures that count are the evaluation's, through the served model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, linear, log_softmax

from model.overlay import Overlaid
from model.senri_config import Config
from model.training.draws import draws
from model.training.trainer import checkpoint, recording
from model.training.trainer.beginning import begin
from model.training.trainer.excerpts import Text, compose, side_by_side
from model.training.trainer.optimise import Group
from model.training.trainer.recorder import record
from model.training.trainer.recording import Recorded
from model.training.trainer.settings import Recorded as RecordedSettings
from model.training.trainer.settings import TrainingError
from model.training.trainer.story_figures import exact, places_of
from model.training.trainer.task import Figures, reached
from model.unroll.layers import Delta, DeltaMemory, Rows, normalised
from model.weights import open_checkpoint, vector

TEXT = 192  # tokens of filler that are judged in a step, at most
# What an answer is told apart from in a step: the step's own tokens, the most frequent ones, and some drawn from all.
# The whole vocabulary would take most of the time; an evaluation takes it.
FREQUENT, OTHERS = 1_000, 1_000
SILENT = 0.001  # a β that counts as writing nothing
# Not trained: the mean of the inputs, and the convolution of the values, which passes a token's own value on.
MEASURED = (".mean", ".v_conv.weight")
MEANT = 20_000  # places that the means of the inputs are taken over


@dataclass(frozen=True, slots=True)
class Read:
    """What the memories did with texts: read (B, T, E), added at the end; beta (layers, B, T, h); after: M by layer."""

    read: Tensor
    beta: Tensor
    after: dict[int, Tensor]


class RecordedTask:
    """Implements `task.Task`."""

    def __init__(self, settings: RecordedSettings, folder: Path) -> None:
        """Makes the recording in `folder` where it is not there yet. Raises `TrainingError`, `WeightsError`,
        `TokenizerError`."""
        s, m = settings, settings.memory
        if m.reads != "end":
            raise TrainingError(f"memory.reads is {m.reads!r}: only a memory that is read at the end can be trained so")
        self.settings = s
        self.base = open_checkpoint(s.base)
        self.config = Config.from_hf(self.base.config, sliding_window_size=s.window, **m.fields())
        kept = Path(s.recording.folder).expanduser() if s.recording.folder else folder / "recording"
        recording.claim(kept, s.recording, s.seed, m.layers)
        files = recording.files(kept, s.recording.files)
        if not all(file.exists() for file in files):
            record(s, self.config, self.base, kept)
        held = recording.held_out(len(files))
        self._taught = recording.load([file for i, file in enumerate(files) if i not in held])
        self._judged = recording.load([files[i] for i in held])
        c = self.config
        embedding = vector(self.base.expect("model.embed_tokens.weight", (c.vocab_size, c.hidden_size)))
        tied = c.tie_word_embeddings
        self._embeddings = normalised(embedding, c.rms_norm_eps)
        self._head = embedding if tied else vector(self.base.expect("lm_head.weight", tuple(embedding.shape)))
        self._norm = vector(self.base.expect("model.norm.weight", (c.hidden_size,)))
        self.memories = nn.ModuleDict({str(i): DeltaMemory(c, decays=s.decays) for i in c.memory_layers})
        if s.shared:
            for i in c.memory_layers:
                self._memory(i).k_proj = self._memory(i).q_proj
        self._lag = s.lag if m.writes == "leaving" else 0
        self._spread = {i: x[::16].float().std(dim=0) for i, x in self._taught.inputs.items()}  # (E,)
        if s.start:
            self._start(Overlaid(self.base, Path(s.start).expanduser()))
        else:
            self._begin()
        self._left: dict[int, Tensor] = {}
        counts = torch.bincount(self._taught.tokens, minlength=c.vocab_size)
        self._frequent = counts.topk(min(FREQUENT, c.vocab_size)).indices

    def _begin(self) -> None:
        m, g = self.settings.memory, torch.Generator().manual_seed(self.settings.seed)
        size = self._taught.residual.float().norm(dim=1).median() / self.config.hidden_size**0.5
        some = torch.randint(len(self._taught.tokens), (MEANT,), generator=g)
        for i in self.config.memory_layers:
            scale = m.scale * float(size) / len(self.config.memory_layers)
            begin(self._memory(i), self._taught.inputs[i][some].float().mean(dim=0), m, scale, g)

    @torch.no_grad()
    def _start(self, other: Overlaid) -> None:
        """From a memory that was trained before. Raises `WeightsError` where it has another shape."""
        for name, parameter in self.memories.named_parameters():
            parameter.copy_(vector(other.expect(_named(name), tuple(parameter.shape))))
            if ".b_proj." in name:
                parameter.mul_(self.settings.sharper)

    def _memory(self, layer: int) -> DeltaMemory:
        memory = self.memories[str(layer)]
        assert isinstance(memory, DeltaMemory)
        return memory

    @property
    def groups(self) -> Sequence[Group]:
        """The memories; their write strengths and read gates, which learn faster. Nothing decays."""
        named = {_named(n): p for n, p in self.memories.named_parameters() if not n.endswith(MEASURED)}
        gates = {n: p for n, p in named.items() if ".b_proj." in n or ".g_proj." in n}
        rest = {n: p for n, p in named.items() if n not in gates}
        return [Group(rest, decay=False), Group(gates, lr=self.settings.gate_lr, decay=False)]

    def loss(self, step: int, micro: int) -> tuple[Tensor, Figures, int]:
        """See `Task.loss`."""
        s = self.settings
        rng = draws(s.seed, step, micro, "texts")
        length = rng.choice(reached(s.tokens, step, s.curriculum))
        rows = max(2, s.rows * s.tokens[0] // length)
        drawn = [compose(rng, self._taught, length, rng.randint(*s.stories), self._lag) for _ in range(rows)]
        passed = torch.tensor([rng.random() < s.passing for _ in drawn])
        loss, figures, after = self._judge(self._taught, drawn, passed, rng, step)
        self._left = {i: M.detach() for i, M in after.items()} if s.passing else {}
        return loss, figures, sum(len(text.places) for text in drawn)

    def _judge(
        self, recorded: Recorded, drawn: Sequence[Text], passed: Tensor, rng: random.Random, step: int
    ) -> tuple[Tensor, Figures, dict[int, Tensor]]:
        """The loss, figures, and the memories afterwards. step: −1 to evaluate."""
        w, training = self.settings.weights, step >= 0
        places, lengths = side_by_side(drawn)
        noise = None
        if training and self.settings.noise:
            noise = torch.Generator().manual_seed(rng.randrange(2**63))
        did = self._read(recorded, places, lengths, passed, noise)
        among = self._candidates(recorded.tokens[places], rng) if training else torch.arange(self.config.vocab_size)
        head = self._head[among] if training else self._head
        rows, at = places_of([text.answers for text in drawn])
        wanted = torch.searchsorted(among, recorded.tokens[places[rows, at] + 1])
        read = did.read[rows, at]
        said = self._logits(recorded, places[rows, at], read, head)
        right = said.argmax(-1) == wanted
        answers = cross_entropy(said, wanted)
        figures = {"answers": float(answers.detach()), "right": float(right.float().mean())}
        if not training:
            figures["exact"] = exact(right.tolist(), [text.sizes for text in drawn])
            without = self._logits(recorded, places[rows, at], torch.zeros_like(read), head).argmax(-1) == wanted
            figures["exact without"] = exact(without.tolist(), [text.sizes for text in drawn])
        loss = w.answers * answers
        if w.read:
            alone = cross_entropy(linear(self._normed(read), head), wanted)
            loss, figures["read"] = loss + w.read * alone, float(alone.detach())
        for name, part in (("opening", slice(1)), ("lead", slice(1, None))) if w.leads else ():
            rows, at = places_of([[place for lead in text.leads for place in lead[part]] for text in drawn])
            if len(at):
                wanted = torch.searchsorted(among, recorded.tokens[places[rows, at] + 1])
                begun = cross_entropy(self._logits(recorded, places[rows, at], did.read[rows, at], head), wanted)
                loss, figures[name] = loss + w.leads * begun, float(begun.detach())
        rows, at = places_of([text.filler for text in drawn])
        beta = did.beta[:, rows, at]
        figures["beta"] = float(beta.detach().mean())
        if (w.beta or w.silence) and step >= w.beta_from:
            loud = torch.logit(beta, eps=1e-6) - math.log(SILENT)
            loss = loss + w.beta * beta.mean() + w.silence * loud.clamp(min=0).mean()
        known = recorded.kept[places[rows, at]] >= 0
        rows, at = rows[known], at[known]
        if len(at) and w.text:
            # Where an answer begins it is chosen what it is about: few places, and a read there spoils all of it.
            begins = recorded.begins[places[rows, at]].nonzero().flatten().tolist()
            some = rng.sample(range(len(at)), min(TEXT if training else 2 * TEXT, len(at)))
            for name, which in (("text", some), ("begins", begins)):
                if which:
                    chosen = torch.tensor(which)
                    r, t = rows[chosen], at[chosen]
                    base, said = self._base_and_said(recorded, places[r, t], did.read[r, t], head)
                    moved = kl_div(said, base, reduction="batchmean", log_target=True)
                    loss, figures[name] = loss + w.text * moved, float(moved.detach())
                    if not training:
                        following = recorded.tokens[places[r, t] + 1][:, None]
                        change = base.gather(1, following) - said.gather(1, following)
                        figures[f"{name} against base"] = float(change.mean())
        return loss, figures, did.after

    def _base_and_said(self, recorded: Recorded, places: Tensor, read: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
        """Log probabilities (N, C) after recorded places (N,): the base model's, and with what is read there (N, E)."""
        with torch.no_grad():
            base = log_softmax(self._logits(recorded, places, torch.zeros_like(read), head), dim=-1)
        return base, log_softmax(self._logits(recorded, places, read, head), dim=-1)

    def _candidates(self, tokens: Tensor, rng: random.Random) -> Tensor:
        """Token ids, rising, among which the tokens of a step's texts are all."""
        V = self.config.vocab_size
        others = torch.tensor(rng.sample(range(V), min(OTHERS, V)))
        found: Tensor = torch.cat((tokens.flatten(), self._frequent, others)).unique()
        return found

    def _read(
        self,
        recorded: Recorded,
        places: Tensor,
        lengths: Tensor,
        passed: Tensor,
        noise: torch.Generator | None = None,
    ) -> Read:
        c, (B, T) = self.config, places.shape
        e = self._embeddings[recorded.tokens[places]]  # (B, T, E)
        real = torch.arange(T) < lengths[:, None]
        rows = Rows([0] * B, lengths.tolist(), torch.zeros(B, dtype=torch.bool), real)
        reads, betas, after = [], [], {}
        for i in c.memory_layers:
            x = recorded.inputs[i][places].float()
            if noise is not None:
                x = x + self.settings.noise * self._spread[i] * torch.randn(x.shape, generator=noise)
            seen, memory = self._memory(i)(x, e, self._empty(i, B, passed), rows)
            reads.append(seen.read)
            betas.append(seen.beta)
            after[i] = memory.M
        return Read(torch.stack(reads).sum(dim=0), torch.stack(betas), after)

    def _empty(self, layer: int, rows: int, passed: Tensor) -> Delta:
        """An empty memory, but for the rows that begin with what the row before them left in the last step."""
        c, before = self.config, self.config.memory_conv_width - 1
        h, d_k, d_v = c.memory_heads, c.memory_key_dim, c.memory_value_dim
        M = torch.zeros(rows, h, d_k, d_v)
        left = self._left.get(layer)
        if left is not None and bool(passed.any()):
            M[passed] = left[(torch.arange(rows)[passed] - 1) % len(left)]
        tails = (torch.zeros(rows, before, h * d_k), torch.zeros(rows, before, h * d_k))
        waiting = torch.zeros(rows, h, self._lag, d_k + d_v + 3) if self._lag else None
        return Delta(M, *tails, torch.zeros(rows, before, h * d_v), torch.zeros(rows, dtype=torch.int64), waiting)

    def _normed(self, h: Tensor) -> Tensor:
        return normalised(h, self.config.rms_norm_eps) * self._norm

    def _logits(self, recorded: Recorded, places: Tensor, read: Tensor, head: Tensor) -> Tensor:
        """(N, C) after the recorded places (N,), with what is read there (N, E); head (C, E): of some tokens or all."""
        return linear(self._normed(recorded.residual[recorded.kept[places]].float() + read), head)

    @torch.no_grad()
    def evaluate(self) -> Figures:
        """Texts from files never trained on, whose facts are of relations never trained on."""
        s, rng = self.settings, draws("held out", self.settings.seed)
        length = s.judged_tokens or max(s.tokens)
        sums: Figures = {}
        groups = -(-s.judged // s.rows)
        for _ in range(groups):
            drawn = [compose(rng, self._judged, length, s.stories[1], self._lag) for _ in range(s.rows)]
            _, figures, _ = self._judge(self._judged, drawn, torch.zeros(s.rows, dtype=torch.bool), rng, -1)
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value / groups
        return {"loss": sums.pop("answers"), **sums}

    def carried(self) -> dict[str, Tensor]:
        """The memories that the last step left."""
        return {str(i): M for i, M in self._left.items()}

    def resume(self, carried: Mapping[str, Tensor]) -> None:
        """See `Task.resume`."""
        self._left = {int(i): M for i, M in carried.items()}

    def export(self, folder: Path, card: Mapping[str, Any]) -> None:
        """The memory's weights, to be laid over the base model; products in bfloat16, which is half as much to read."""
        tensors = {
            _named(name): tensor.bfloat16() if name.endswith("_proj.weight") else tensor
            for name, tensor in checkpoint.tensors_of(self.memories).items()
        }
        if self.settings.shared:
            tensors |= {n.replace(".q_proj.", ".k_proj."): t.clone() for n, t in tensors.items() if ".q_proj." in n}
        checkpoint.write_memory(folder, self.config, tensors, self.base.fingerprint, card)


def _named(name: str) -> str:
    """20.q_proj.weight → model.layers.20.memory.q_proj.weight."""
    layer, _, rest = name.partition(".")
    return f"model.layers.{layer}.memory.{rest}"
