"""SMT for training: all logits of a text and the state after it, differentiable through the state.

    SmtUnroll(config).unroll(tokens (B, T), lengths (B,), state) -> (logits (B, T, V), state)

Writes depend on embeddings and on earlier writes only, so they come first, one after the other; then every token has
its window, which is encoded beside the others, `WINDOWS` at a time. With `checkpoint` what is in between is computed
again in the backward pass, and memory grows with the text by some kilobytes a token. The state has the leaves of
`Smt.advance`'s, and a state of one goes on in the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint as recomputed

from model.smt_config import Config
from model.smt_layers import Memory, Pool, Transformer
from model.state import State, StateSpec
from model.weights import Tensors

__all__ = ["SmtUnroll"]

WINDOWS = 64  # encoded at a time


class SmtUnroll(nn.Module):
    """SMT for training; see the module's docstring. Implements `model.state.Trainable`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spec: StateSpec = config.state_spec()
        self.vocab_size = config.vocab_size
        self.transformer = Transformer(config)
        self.memory = Memory(config.sizes)
        self.pool = Pool(config.n_embd)
        self._states = tuple(f"{name}.{i}" for i in range(config.ssm_num_layers) for name in ("conv", "ssm"))

    @classmethod
    def load(cls, config: Config, tensors: Tensors) -> SmtUnroll:
        """With a checkpoint's weights, as float32. Raises `WeightsError` naming the tensor that does not fit."""
        model = cls(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                weight = tensors.expect(name, tuple(parameter.shape))
                parameter.copy_(weight if isinstance(weight, Tensor) else weight.dequantise())
        return model

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32 at least, of what `hidden` returns: the embedding is the head."""
        logits = linear(hidden, self.transformer.wte.weight)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def hidden(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """`unroll` up to the head: (B, T, E), 0 at padding, and the state after."""
        B, T = tokens.shape
        text = torch.cat((state["tokens"], tokens + 1), dim=1)  # (B, m + T)
        mask = torch.cat((state["mask"], (1 - state["frozen"])[:, None].expand(B, T)), dim=1).bool()
        slots, filled, new = self._write(lengths, text, mask, state)
        rows, at = (torch.arange(T, device=tokens.device) < lengths[:, None]).nonzero(as_tuple=True)
        version = (state["phase"][rows] + at) // self.config.stride  # of the outputs that a token sees
        encoded = [self.transformer.wte(tokens.reshape(-1)[:0])]  # (0, E)
        for some in torch.arange(len(rows), device=tokens.device).split(WINDOWS):
            r, v = rows[some], version[some]
            given = (self._recent(text, r, at[some] + 1), slots[v, r], filled[v, r])
            encoded.append(
                recomputed(self._encode, *given, use_reentrant=False) if checkpoint else self._encode(*given)
            )
        found = torch.cat(encoded)
        hidden = torch.zeros(B, T, found.shape[-1], dtype=found.dtype, device=found.device)
        return hidden.index_put((rows, at), found), self._end(lengths, text, mask, new, state)

    def unroll(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """See `model.state.Trainable.unroll`. checkpoint: compute again in the backward pass instead of keeping."""
        hidden, after = self.hidden(tokens, lengths, state, checkpoint=checkpoint)
        return self.head(hidden), after

    def _recent(self, text: Tensor, rows: Tensor, done: Tensor) -> Tensor:
        """The last m of `text` after `done` (R,) tokens of `rows` (R,): (R, m)."""
        return text[rows].gather(1, done[:, None] + torch.arange(self.config.m_input_tokens, device=text.device))

    def _window(self, recent: Tensor, slots: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (R, n + m, E), and which are there (R, n + m) bool."""
        n = self.config.n_ssm_outputs
        outputs = torch.arange(n, device=filled.device) >= n - filled[:, None]
        x = self.transformer.wte((recent - 1).clamp(min=0))
        return torch.cat((slots.to(x.dtype), x), dim=1), torch.cat((outputs, recent > 0), dim=1)

    def _encode(self, recent: Tensor, slots: Tensor, filled: Tensor) -> Tensor:
        """(R, E): ready for the head."""
        last: Tensor = self.transformer(*self._window(recent, slots, filled))
        return last

    def _write(
        self, lengths: Tensor, text: Tensor, mask: Tensor, state: State
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """All writes of a text: the outputs before the first, after it, … (K + 1, B, n, E), how many there are
        (K + 1, B), and the leaves after the last."""
        c, dtype = self.config, self.memory.norm_f.weight.dtype
        n, everyone = c.n_ssm_outputs, torch.arange(len(text), device=text.device)
        due = (state["phase"] + lengths) // c.stride
        slots, filled, writes = [state["slots"].to(dtype)], [state["filled"]], state["writes"]
        states = [state[name].to(dtype) for name in self._states]
        for k in range(int(due.max()) if len(due) else 0):
            done = torch.minimum(c.stride * (k + 1) - state["phase"], lengths)
            recent = self._recent(text, everyone, done)
            writable = self._recent(mask, everyone, done) & (recent > 0)
            keep = (due > k) & (state["frozen"] == 0) & writable.any(dim=1)
            x, valid = self._window(recent, slots[-1], filled[-1])
            pooled = torch.cat((valid[:, :n], writable), dim=1) | ~keep[:, None]  # of none there is no mean
            s, after = self.memory(self.pool(x, pooled), states)
            states = [torch.where(keep[:, None, None], a, b) for a, b in zip(after, states, strict=True)]
            moved = torch.cat((slots[-1][:, 1:], s.unsqueeze(1)), dim=1)
            slots.append(torch.where(keep[:, None, None], moved, slots[-1]))
            filled.append(torch.where(keep, (filled[-1] + 1).clamp(max=n), filled[-1]))
            writes = writes + keep[:, None]
        new = dict(zip(self._states, states, strict=True))
        new |= {"slots": slots[-1], "filled": filled[-1], "writes": writes}
        return torch.stack(slots), torch.stack(filled), new

    def _end(self, lengths: Tensor, text: Tensor, mask: Tensor, new: dict[str, Tensor], state: State) -> State:
        """The state after a text: new leaves, in the dtypes of the old ones."""
        read, everyone = lengths > 0, torch.arange(len(lengths), device=lengths.device)
        new = new | {
            "position": state["position"] + lengths,
            "pending": torch.where(read, 0, state["pending"]),
            "phase": (state["phase"] + lengths) % self.config.stride,
            "tokens": self._recent(text, everyone, lengths),
            "mask": self._recent(mask, everyone, lengths),
        }
        return state.followed_by(new, read)
