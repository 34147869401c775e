"""SMT, Stride Memory Transformer: GPT-2 over a window of the last m tokens and the last n outputs of a Mamba.

    window  = [n SSM outputs | m recent token embeddings],    positions 0 … n + m − 1 (`model.gpt2`)
    logits  = wte · GPT-2(window) at the last position
    every `stride` tokens, after the token was read:
    pooled  = softmax(W_q mean(window) · (W_k window)ᵀ / √E) · window
    s       = Mamba(pooled), one recurrent step through the stack (`model.mamba`)
    SSM outputs ← the last n of them and s;    visible from the next token on

A window's memory is its embeddings, not what GPT-2 makes of them. So a text that is read needs a pooling and a step of
Mamba per `stride` tokens, and GPT-2 once, at its end, where logits are wanted; while what is generated needs GPT-2 over
a whole window per token.

Decided where the seed leaves it open. Both parts of a window stand on its right: the newest token is always at position
n + m − 1, the newest output at n − 1, as they do once the window is full. Empty places are masked, in GPT-2 and in the
pooling (earlier code attended to zeros). Mamba's state goes on from write to write (an earlier version began anew at
each). The embedding is GPT-2's own wte, which is the head too. s is the stack's output after its final norm. Tokens
read while frozen are seen in the window and never pooled.

Invariants: everything a session needs is in its leaves (`Config.state_spec`); nothing counts from the position.
Arithmetic is the `Ops` it was given; where those promise bits that do not depend on batch or chunk, so does this: what
is left to torch has one shape per window. It knows nothing of text.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.gpt2 import Gpt2, Shape
from model.kernels import Ops
from model.mamba import MambaLayers
from model.smt_config import Config
from model.smt_memory import SmtMemory
from model.state import State
from model.weights import Tensors

__all__ = ["Config", "Smt"]

WINDOWS = 16  # encoded at a time, at most


class Smt:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec()
        self.vocab_size = config.vocab_size
        E = config.n_embd
        wte = tensors.expect("transformer.wte.weight", (config.vocab_size, E))
        self._embed = ops.embedding(wte)
        self._head = ops.linear([wte])
        shape = Shape(config.window, E, config.n_inner, config.n_head, config.n_layer, config.layer_norm_epsilon)
        self._gpt2 = Gpt2(shape, tensors, "transformer", ops)
        self._query = ops.linear([tensors.expect("pool.q_proj.weight", (E, E))])
        self._key = ops.linear([tensors.expect("pool.k_proj.weight", (E, E))])
        self._mamba = MambaLayers(config.sizes, tensors, "memory", ops)
        self._mamba_leaves = tuple(config.sizes.leaf_specs())

    @property
    def memory(self) -> SmtMemory:
        """Mamba's states and the SSM outputs, and what can be done to them."""
        return SmtMemory(self.config.ssm_num_layers)

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        stride = self.config.stride
        B, T = tokens.shape
        # After `done` of the tokens a row's last m are at done … done + m − 1.
        text = torch.cat((state["tokens"], tokens + 1), dim=1)  # (B, m + T)
        mask = torch.cat((state["mask"], (1 - state["frozen"])[:, None].expand(B, T)), dim=1)
        due = (state["phase"] + lengths) // stride  # writes in each row
        # A write is visible from the next token on: one that the last token makes comes after its logits.
        last = (lengths > 0) & ((state["phase"] + lengths) % stride == 0)
        before = due - last.long()
        for k in range(int(before.max()) if B else 0):
            rows = (before > k).nonzero().flatten()
            self._write(rows, stride * (k + 1) - state["phase"][rows], text, mask, state)
        logits = self._logits(lengths, text, state)
        rows = last.nonzero().flatten()
        self._write(rows, lengths[rows], text, mask, state)
        everyone = torch.arange(B)
        state["tokens"].copy_(self._after(lengths, everyone, text))
        state["mask"].copy_(self._after(lengths, everyone, mask))
        state["phase"].copy_((state["phase"] + lengths) % stride)
        state["position"].add_(lengths)
        state["pending"].masked_fill_(lengths > 0, 0)
        return logits, state

    def _after(self, done: Tensor, rows: Tensor, text: Tensor) -> Tensor:
        """The last m of `text` (B, m + T) after `done` (R,) tokens of `rows` (R,): (R, m)."""
        return text[rows].gather(1, done[:, None] + torch.arange(self.config.m_input_tokens))

    def _window(self, rows: Tensor, tokens: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Embeddings (R, n + m, E) and which are there, bool (R, n + m). tokens (R, m) as the leaf has them."""
        n = self.config.n_ssm_outputs
        valid = torch.cat((torch.arange(n) >= n - state["filled"][rows, None], tokens > 0), dim=1)
        recent = self._embed((tokens - 1).clamp(min=0).view(-1)).view(*tokens.shape, -1)
        return torch.cat((state["slots"][rows], recent), dim=1), valid

    def _logits(self, lengths: Tensor, text: Tensor, state: State) -> Tensor:
        """(B, V): of the rows that have read something; 0 for the others."""
        logits = torch.zeros(len(lengths), self.vocab_size)
        for rows in (lengths > 0).nonzero().flatten().split(WINDOWS):
            if len(rows):
                x, valid = self._window(rows, self._after(lengths[rows], rows, text), state)
                logits[rows] = self._head(self._gpt2.last(x, valid)).float()
        return logits

    def _write(self, rows: Tensor, done: Tensor, text: Tensor, mask: Tensor, state: State) -> None:
        """One write of each of `rows` (R,), after `done` (R,) of its tokens, unless frozen or without a token."""
        tokens = self._after(done, rows, text)
        writable = (self._after(done, rows, mask) > 0) & (tokens > 0)  # (R, m)
        keep = writable.any(dim=1) & (state["frozen"][rows] == 0)
        rows, tokens, writable = rows[keep], tokens[keep], writable[keep]
        if not len(rows):
            return
        x, valid = self._window(rows, tokens, state)
        n = self.config.n_ssm_outputs
        pooled = self._pool(x, torch.cat((valid[:, :n], writable), dim=1))
        leaves = {name: state[name][rows] for name in self._mamba_leaves}
        s = self._mamba.advance(pooled.unsqueeze(1), torch.ones_like(rows), leaves)  # (R, 1, E)
        for name, leaf in leaves.items():
            state[name][rows] = leaf
        state["slots"][rows] = torch.cat((state["slots"][rows, 1:], s), dim=1)
        state["filled"][rows] = (state["filled"][rows] + 1).clamp(max=n)
        state["writes"][rows] += 1

    def _pool(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (R, n + m, E), valid (R, n + m) → (R, E). As sums of products, so that a row's bits are its own."""
        E = x.shape[-1]
        there = valid.unsqueeze(-1)
        mean = (x * there).sum(dim=1) / there.sum(dim=1)
        q = self._query(mean).unsqueeze(1)  # (R, 1, E)
        k = self._key(x.reshape(-1, E)).view(x.shape)
        scores = (q * k).sum(dim=-1) * E**-0.5
        weights = scores.masked_fill(~valid, -torch.inf).softmax(dim=-1)  # (R, n + m)
        pooled: Tensor = (weights.unsqueeze(-1) * x).sum(dim=1)
        return pooled
