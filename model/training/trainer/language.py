"""Next tokens of a text, from nothing: any family that can be unrolled.

Row b of B is a stream that begins at place b·N/B of a text of N tokens and is read on from step to step, its state
passed on and cut from its history (truncated backpropagation through time, the horizon being a step's tokens), so that
the memory is trained on states as they are after thousands of tokens. Now and then a row begins anew: with an empty
state, at a place that is drawn. Else a run would read B stretches of the text and no more, and learn those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from model.state import State
from model.tokenizer import load_tokenizer
from model.training.draws import draws
from model.training.tokenisers import save_tokeniser, train_tokeniser
from model.training.trainer import checkpoint, texts
from model.training.trainer.families import trainable
from model.training.trainer.optimise import Group
from model.training.trainer.settings import Language, TrainingError
from model.training.trainer.task import Figures, all_of, device_of, products_in


class LanguageTask:
    """Implements `task.Task`."""

    def __init__(self, settings: Language, folder: Path) -> None:
        """folder: of the run; the tokeniser is trained into it once. Raises `TrainingError`, `WeightsError`."""
        s = self.settings = settings
        self._tokeniser = folder / "tokeniser"
        if not (self._tokeniser / "tokenizer_config.json").exists():  # which is written last
            made = train_tokeniser(s.tokeniser.kind, texts.characters(s.corpus, s.characters), s.tokeniser.vocab_size)
            save_tokeniser(made, self._tokeniser)
        tokenizer = load_tokenizer(self._tokeniser, None)
        text = texts.encode(tokenizer, texts.characters(s.corpus, s.characters), s.characters)
        judged = int(len(text) * s.validation)
        if min(judged, len(text) - judged) <= 2 * s.tokens:
            raise TrainingError(f"the text has {len(text):,} tokens: too few for tokens={s.tokens}")
        self._text, self._held = text[:-judged], text[-judged:]
        self.config = checkpoint.complete(s.model, tokenizer.vocab_size, tokenizer)
        self.device = device_of(s.device)
        self.model = trainable(self.config, s.seed)
        self.model.to(self.device)
        if s.frozen and "frozen" not in self.model.spec:
            raise TrainingError(f"frozen: {self.config['model_type']} has no memory that could be read and not written")
        self._state = self._begin(s.rows, s.frozen)
        self._places = [b * len(self._text) // s.rows for b in range(s.rows)]  # where each row is read on

    def _begin(self, rows: int, frozen: bool) -> State:
        """States before the first token, with a memory that may be written or not."""
        state = State.zeros(self.model.spec, rows, self.device)
        if "frozen" in state:
            state["frozen"].fill_(int(frozen))
        return state

    @property
    def groups(self) -> Sequence[Group]:
        """All of them."""
        return all_of(self.model)

    def loss(self, step: int, micro: int) -> tuple[Tensor, Figures, int]:
        """See `Task.loss`. Micro-batches are one after the other on the same streams."""
        s, T = self.settings, self.settings.tokens
        rng = draws(s.seed, step, micro, "forget")
        anew = [rng.random() < s.forget for _ in range(s.rows)]
        starts = [rng.randrange(len(self._text)) if a else at for a, at in zip(anew, self._places, strict=True)]
        self._places = [start + T for start in starts]
        tokens = texts.rows(self._text, starts, T + 1).to(self.device)
        state = _emptied(self._state, torch.tensor(anew, device=self.device))
        with products_in(s.dtype, self.device):
            logits, after = self._unroll(tokens[:, :-1], state)
        self._state = State(after.spec, {name: leaf.detach() for name, leaf in after.items()})
        loss = cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        right = (logits.detach().argmax(-1) == tokens[:, 1:]).float().mean()
        return loss, {"accuracy": float(right)}, s.rows * T

    def _unroll(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        lengths = torch.full((tokens.shape[0],), tokens.shape[1], dtype=torch.int64, device=self.device)
        return self.model.unroll(tokens, lengths, state, checkpoint=self.settings.checkpoint)

    @torch.no_grad()
    def evaluate(self) -> Figures:
        """Loss (nats a token), perplexity and accuracy on the held-out end of the text, streamed from empty states; of
        the first horizon apart, since there a memory has nothing to say; and the loss with a memory that is never
        written, which says what the memory is worth."""
        nll, right, first = self._judge(frozen=self.settings.frozen)
        figures = {
            "loss": nll,
            "perplexity": float(torch.tensor(nll).exp()),
            "accuracy": right,
            "first_horizon_loss": first,
        }
        if self.settings.frozen or "frozen" not in self.model.spec:
            return figures
        return {**figures, "frozen_loss": self._judge(frozen=True)[0]}

    def _judge(self, *, frozen: bool) -> tuple[float, float, float]:
        """Loss and accuracy on the held-out text, and the loss on its rows' first horizon."""
        s = self.settings
        rows = min(s.rows, max(1, len(self._held) // (2 * s.tokens)))
        state = self._begin(rows, frozen)
        starts = [b * len(self._held) // rows for b in range(rows)]
        horizons = min(s.judged, len(self._held) // rows // s.tokens)
        nll, right, first, count = 0.0, 0, 0.0, 0
        for n in range(horizons):
            tokens = texts.rows(self._held, [start + n * s.tokens for start in starts], s.tokens + 1).to(self.device)
            logits, state = self._unroll(tokens[:, :-1], state)
            cost = float(cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="sum"))
            nll, count = nll + cost, count + rows * s.tokens
            right += int((logits.argmax(-1) == tokens[:, 1:]).sum())
            first = first or cost / (rows * s.tokens)
        return nll / count, right / count, first

    def carried(self) -> dict[str, Tensor]:
        """The streams' states, and where each is read on."""
        return {**self._state, "places": torch.tensor(self._places)}

    def resume(self, carried: Mapping[str, Tensor]) -> None:
        """See `Task.resume`."""
        self._state = State(self.model.spec, {name: carried[name].to(self.device) for name in self.model.spec})
        self._places = carried["places"].tolist()

    def export(self, folder: Path, card: Mapping[str, Any]) -> None:
        """A directory that `perennial serve --model` takes."""
        checkpoint.write_model(folder, self.config, checkpoint.tensors_of(self.model), self._tokeniser, card)


def _emptied(state: State, rows: Tensor) -> State:
    """The state with `rows` (B,) bool as before the first token, but frozen where they were."""
    return State(
        state.spec,
        {
            n: leaf if n == "frozen" else leaf.masked_fill(rows.view(-1, *[1] * (leaf.dim() - 1)), 0)
            for n, leaf in state.items()
        },
    )
