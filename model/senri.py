"""Senri: a Llama with a sliding window and sinks in every layer, and an Infini-attention memory in a few.

Every layer attends to the last W positions and the first few tokens (the sinks; Xiao et al. 2023, arXiv 2309.17453);
the memory layers also read and write a memory (`model.remembering`). With plain Llama weights every gate is closed, or
no memory is there, and the model is, within the window, exactly the base model.

    h ← h + W_o · combine(A_mem, A_local)(W_qkv · RMSNorm(h))      [+ what the gated delta rule reads of RMSNorm(h)]
    h ← h + W_down · swiglu(W_gate_up · RMSNorm(h))

What the gated delta rule reads may be added after the last layer instead (`Config.memory_reads`): the layers then
compute what the base model does, whatever is remembered.

Invariants: everything a session needs is in its state's leaves (`spec`); the module never changes after it is built.
Arithmetic is the `Ops` it was given (`model.kernels`), chosen once at load. It knows nothing of text or sessions.

Deliberate differences from StreamingLLM: window keys are stored after RoPE at absolute positions (angles in float64),
so a ring block never changes once it is full; sink keys are stored before RoPE and met by a second query re-based to
position min(p, W), so that no distance ever exceeds W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.infini import Rule, end_segments
from model.kernels import Block, Ops, Rope, Stack, Window, WindowSpec, rope_frequencies
from model.remembering import CLOSED, Recall, Segments, has_recall, load_recall, load_segments
from model.senri_config import Config
from model.senri_memory import SenriMemory
from model.state import State
from model.weights import Tensors, Weight, vector

__all__ = ["CLOSED", "Config", "Senri", "Tensors"]


@dataclass(frozen=True, slots=True)
class Plain:
    """Consecutive layers that no memory changes, run by the backend as one. recalls: the memories that read their
    inputs, and are added at the end."""

    layers: range
    stack: Stack
    recalls: Sequence[Recall]


class Senri:
    """A loaded model; see the module's docstring. Implements `model.state.Model`."""

    def __init__(self, config: Config, tensors: Tensors, ops: Ops) -> None:
        self.config = config
        self.ops = ops
        self.device = ops.device
        self.spec = config.state_spec(ops.state_dtype)
        self.vocab_size = config.vocab_size
        self._window = window(config)
        E = config.hidden_size
        embedding = tensors.expect("model.embed_tokens.weight", (config.vocab_size, E))
        self._embed = ops.embedding(embedding)
        head = embedding if config.tie_word_embeddings else tensors.expect("lm_head.weight", (config.vocab_size, E))
        self._head = ops.linear([head])
        self._norm = vector(tensors.expect("model.norm.weight", (E,)))
        self._parts = list(self._load(tensors))
        self._sharing = [p for p in self._parts if isinstance(p, Segments) and p.shared]
        self._recalls = any(isinstance(p, Recall) or (isinstance(p, Plain) and p.recalls) for p in self._parts)

    def _load(self, tensors: Tensors) -> Iterator[Plain | Segments | Recall]:
        """The layers, those that no memory changes joined."""
        c, delta = self.config, self.config.memory_rule is Rule.GATED_DELTA
        remembering = {i for i in c.memory_layers if not delta or has_recall(i, tensors)}
        plain: dict[int, Block] = {}
        late: list[Recall] = []
        for i in range(c.num_hidden_layers):
            block = load_block(c, i, tensors, self.ops)
            part: Segments | Recall | None = None
            if i in remembering:
                part = load_recall(c, i, block, tensors, self.ops) if delta else load_segments(c, i, block, tensors)
            if isinstance(part, Recall) and c.memory_reads == "end":
                late.append(part)
                part = None
            if part is None:
                plain[i] = block
            else:  # of those that are read at the end there are none then
                yield from self._join(plain, [])
                plain = {}
                yield part
        yield from self._join(plain, late)

    def _join(self, blocks: Mapping[int, Block], late: Sequence[Recall]) -> Iterator[Plain]:
        """Layers that follow each other, where there are any."""
        if blocks:
            first = min(blocks)
            memories = {recall.layer - first: recall.memory for recall in late}
            stack = self.ops.stack(list(blocks.values()), self.config.rms_norm_eps, memories)
            yield Plain(range(first, max(blocks) + 1), stack, late)

    @property
    def memory(self) -> SenriMemory:
        """The memory layers' matrices, and what can be done to them."""
        parts = [one for part in self._parts for one in (part.recalls if isinstance(part, Plain) else [part])]
        gates = {part.layer: part.gate if isinstance(part, Segments) else None for part in parts}
        return SenriMemory(self.config.num_attention_heads, gates)

    @torch.inference_mode()
    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """See `model.state.Model.advance`."""
        B, T = tokens.shape
        if T == 0:
            return torch.zeros(B, self.config.vocab_size), state
        if T == 1 or not self._sharing:
            return self._advance(tokens, lengths, state), state
        # A shared memory is written once all its layers have read a segment, so none may reach beyond one at a time.
        logits, done = torch.zeros(B, self.config.vocab_size), torch.zeros_like(lengths)
        while bool((done < lengths).any()):
            room = self.config.chunk_size - state["position"] % self.config.chunk_size
            now = torch.minimum(lengths - done, room)  # (B,): each row to the end of its own segment
            columns = done[:, None] + torch.arange(int(now.max()))
            last = self._advance(tokens.gather(1, columns.clamp(max=T - 1)), now, state)
            logits = torch.where((now > 0)[:, None], last, logits)
            done += now
        return logits, state

    def _advance(self, tokens: Tensor, lengths: Tensor, state: State) -> Tensor:
        """`advance` of T > 0 tokens, which reach beyond no row's segment where a memory is shared."""
        c, ops = self.config, self.ops
        B, T = tokens.shape
        # The window counts from where it was last emptied: there it is as new, sinks and all.
        rope = ops.rope(self._window, state["position"] - state["origin"], lengths, T)
        h = self._embed(tokens.reshape(-1))  # (B·T, E)
        e = h.clone() if self._recalls else h
        delta = None  # what the last layer has still to add to h
        for part in self._parts:
            if isinstance(part, Plain):
                memories = [recall.leaves(state) for recall in part.recalls]
                delta = part.stack(h, delta, rope, [leaves(state, i) for i in part.layers], e, memories)
            else:
                delta = self._advance_remembering(part, h, e, delta, rope, state)
        x = ops.add_norm(h, delta, self._norm, c.rms_norm_eps)
        last = torch.arange(B) * T + (lengths - 1).clamp(min=0)  # each row's last real token
        logits = self._head(x[last] if T > 1 else x).float()
        state["position"].add_(lengths)
        state["pending"].masked_fill_(lengths > 0, 0)
        if self._sharing:
            self._write_shared(lengths, state)
        return logits

    def _advance_remembering(
        self, part: Segments | Recall, h: Tensor, e: Tensor, delta: Tensor | None, rope: Rope, state: State
    ) -> Tensor:
        """A layer with a memory: h (B·T, E) in place; returns what is still to be added to it.

        e (B·T, E): the tokens' embeddings, where there are layers of the gated delta rule.
        """
        ops, block, eps = self.ops, part.block, self.config.rms_norm_eps
        x = ops.add_norm(h, delta, block.input_norm, eps)
        qkv = block.qkv(x)  # (B·T, (H+2G)·D)
        local = ops.window_attention(qkv, rope, **leaves(state, part.layer)._asdict())  # (B·T, H·D)
        if isinstance(part, Segments):
            found = block.out(part.attend(self.config, qkv, local, state, rope.lengths, singly=ops.batch_invariant))
        else:
            found = block.out(local).add_(part.memory.read(ops, x, e, part.leaves(state), rope))
        return block.down(ops.swiglu(block.gate_up(ops.add_norm(h, found, block.post_norm, eps))))

    def _write_shared(self, lengths: Tensor, state: State) -> None:
        """The memory that layers share is written where a segment has just ended, by each of them in turn."""
        ended = (lengths > 0) & (state["position"] % self.config.chunk_size == 0)
        rows = ended.nonzero().flatten().tolist()
        if rows:
            end_segments([part.memory(state) for part in self._sharing], rows, self.config.memory_rule)


def load_block(config: Config, i: int, tensors: Tensors, ops: Ops) -> Block:
    """Layer i of a Llama. Raises `WeightsError` naming the weight that is missing or does not fit."""
    c = config
    E, F = c.hidden_size, c.intermediate_size
    query, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim

    def weight(name: str, *shape: int) -> Weight:
        return tensors.expect(f"model.layers.{i}.{name}.weight", shape)

    qkv = [
        weight("self_attn.q_proj", query, E),
        weight("self_attn.k_proj", kv, E),
        weight("self_attn.v_proj", kv, E),
    ]
    return Block(
        input_norm=vector(weight("input_layernorm", E)),
        qkv=ops.linear(qkv),
        out=ops.linear([weight("self_attn.o_proj", E, query)]),
        post_norm=vector(weight("post_attention_layernorm", E)),
        gate_up=ops.linear([weight("mlp.gate_proj", F, E), weight("mlp.up_proj", F, E)]),
        down=ops.linear([weight("mlp.down_proj", E, F)]),
    )


def window(config: Config) -> WindowSpec:
    """The geometry of its windowed attention."""
    return WindowSpec(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        window=config.sliding_window_size,
        num_sinks=config.num_sink_tokens,
        inv_freq=rope_frequencies(config.rope_theta, config.head_dim),
    )


def leaves(state: State, i: int) -> Window:
    """Layer i's window in a state."""
    return Window(state[f"k.{i}"], state[f"v.{i}"], state[f"sink_k.{i}"], state[f"sink_v.{i}"])
