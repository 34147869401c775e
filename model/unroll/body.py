"""`unroll`: all logits of a text and the state after it, differentiable through the state; for training.

    Unroll.load(config, checkpoint).unroll(tokens (B,T), lengths (B,), state) -> (logits (B,T,V), state)

The state it takes and returns has the leaves of `Senri.advance`'s with a float32 ring, so that a state of one goes on
in the other; here it is a new one, and gradients flow through it from call to call: truncated backpropagation through
time is a matter of when `detach` is called. A text is read in pieces; with `checkpoint` a piece keeps only what it
hands on and is computed again in the backward pass: memory grows with the keys and values of the text and no faster.

Deliberate difference from `advance`: logits come after every token (those of padding are 0), and `num_memories` > 1,
which has no training, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint as recomputed

from model.infini import Rule
from model.remembering import CLOSED, has_recall
from model.senri_config import Config
from model.state import State, StateSpec
from model.unroll import window
from model.unroll.layers import Carried, Delta, DeltaMemory, Layer, RMSNorm, Rows, Seen, accurate, normalised
from model.unroll.memory import Segments, end_segments
from model.weights import Tensors, WeightsError

PIECE = 128  # tokens of a row read at a time, at least
KEPT = ("k", "v", "sink_k", "sink_v")  # leaves of every layer
SHARED = ("M", "z", "writes")  # leaves that a shared memory has once


@dataclass(frozen=True, slots=True)
class Trace:
    """What the memories did with a text, by layer: reads (B, T, E), what each read alone adds to the residual stream
    (for a loss on it, through the final norm and head); beta (B, T, h), write strengths, 0 at padding."""

    reads: dict[int, Tensor]
    beta: dict[int, Tensor]


@dataclass(frozen=True, slots=True)
class Unrolled:
    """hidden (B, T, E): after the final norm, what the head is applied to, 0 at padding; the state after the text."""

    hidden: Tensor
    state: State
    trace: Trace | None


class Body(nn.Module):
    """Everything but the head: parameters `embed_tokens`, `layers`, `norm`.

    remembering: which of a gated_delta model's memory layers have a memory (the others are the base model exactly);
    decaying: which of them have a decay. Raises `WeightsError` for several memories.
    """

    def __init__(
        self, config: Config, remembering: frozenset[int] | None = None, decaying: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()
        if config.num_memories > 1:
            raise WeightsError(f"num_memories is {config.num_memories}; several memories are for inference only")
        self.config = config
        delta = config.memory_rule is Rule.GATED_DELTA
        memories = frozenset(config.memory_layers) if remembering is None else remembering
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(
                config,
                gated=not delta and i in config.memory_layers,
                memory=delta and i in memories,
                decays=i in decaying,
            )
            for i in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False, trace: bool = False
    ) -> Unrolled:
        """tokens (B, T) int64, right-padded to lengths (B,) int64; state of B rows, left as it is."""
        T = tokens.shape[1]
        place, counts, frozen = state["position"].tolist(), lengths.tolist(), state["frozen"].bool()
        start = state["position"] - state["origin"]  # the window counts from where it was last emptied
        where = start.tolist()
        carried = self._begin(state, start)
        hidden, seen = [self.embed_tokens(tokens[:, :0])], []
        for a, b in pairwise(self._cuts(T, place)):
            piece = window.make_piece(self.config, start, lengths, where, a, b - a, hidden[0].dtype)
            rows = Rows([p + a for p in place], [min(max(n, a), b) - a for n in counts], frozen, piece.real)
            read: Callable[..., tuple[Tensor, tuple[Carried, ...], dict[int, Seen]]] = self._read
            if checkpoint:
                read = partial(recomputed, read, use_reentrant=False, preserve_rng_state=False)
            h, carried, did = read(tokens[:, a:b], carried, piece, rows, trace)
            hidden.append(h)
            seen.append(did)
            # What the next piece sees, and where the rings of rows that have ended begin.
            needed = min(b + 1, *counts)
            carried = tuple(replace(one, kept=window.forget(one.kept, needed)) for one in carried)
        after = self._end(state, start, carried, lengths)
        return Unrolled(torch.cat(hidden, dim=1), after, _trace(seen) if trace else None)

    def _cuts(self, T: int, place: list[int]) -> list[int]:
        """Where the pieces begin, and T. A memory that is shared is written when every layer has read a segment, so
        that no piece may reach over the end of one."""
        C = self.config.chunk_size
        if self.config.share_memory:
            return sorted({0, T, *(t for p in place for t in range(C - p % C, T, C))})
        return [*range(0, T, -(-PIECE // C) * C), T]

    def _read(
        self, tokens: Tensor, carried: tuple[Carried, ...], piece: window.Piece, rows: Rows, trace: bool
    ) -> tuple[Tensor, tuple[Carried, ...], dict[int, Seen]]:
        """One piece through all layers: hidden (B, P, E), what each layer carries on, what each memory did."""
        h = self.embed_tokens(tokens)  # (B, P, E)
        e = normalised(h, self.config.rms_norm_eps)
        after, seen = [], {}
        for i, (layer, before) in enumerate(zip(self.layers, carried, strict=True)):
            h, one, did = layer(h, e, piece, before, rows, trace=trace)
            after.append(one)
            if did is not None:
                seen[i] = did
        for i, did in seen.items():
            if self.layers[i].late:
                h = h + did.read.to(h.dtype)
        if not trace:
            seen = {}
        if self.config.share_memory:
            after = self._end_segments(after, rows)
        return self.norm(h).masked_fill(~rows.real.unsqueeze(-1), 0.0), tuple(after), seen

    def _end_segments(self, carried: list[Carried], rows: Rows) -> list[Carried]:
        """The shared memory written, when all layers have read."""
        layers = [i for i, one in enumerate(carried) if isinstance(one.memory, Segments)]
        memories = [one.memory for one in carried if isinstance(one.memory, Segments)]
        rule = self.config.memory_rule
        for i, memory in zip(
            layers, end_segments(memories, rule, rows.position, rows.lengths, rows.frozen), strict=True
        ):
            carried[i] = replace(carried[i], memory=memory)
        return carried

    def _begin(self, state: State, start: Tensor) -> tuple[Carried, ...]:
        """What the layers carry, from the leaves of a state whose window began `start` tokens ago."""
        dtype = window.products_dtype(self.embed_tokens.weight)
        carried = []
        for i in range(self.config.num_hidden_layers):
            ring_k, ring_v, sink_k, sink_v = (state[f"{name}.{i}"] for name in KEPT)
            kept = window.begin(ring_k, ring_v, sink_k, sink_v, start, dtype)
            carried.append(Carried(kept, self._memory(state, i, start)))
        return tuple(carried)

    def _memory(self, state: State, i: int, start: Tensor) -> Segments | Delta | None:
        if f"seg_k.{i}" in state:
            owner = self.config.memory_owner(i)
            return Segments(**{f.name: state[f"{f.name}.{owner if f.name in SHARED else i}"] for f in fields(Segments)})
        if isinstance(self.layers[i].memory, DeltaMemory):
            own = {f.name: state[f"{f.name}.{i}"] for f in fields(Delta) if f"{f.name}.{i}" in state}
            if "waiting" in own:
                own["waiting"] = turned(own["waiting"], start)
            return Delta(**own)
        return None

    def _end(self, state: State, start: Tensor, carried: tuple[Carried, ...], lengths: Tensor) -> State:
        """The state after a text: new leaves, in the dtypes of the old ones."""
        read = lengths > 0
        leaves = dict(state) | {
            "position": state["position"] + lengths,
            "pending": torch.where(read, 0, state["pending"]),
        }
        for i, one in enumerate(carried):
            kept = window.end(one.kept, start, lengths, self.config.sliding_window_size)
            for name, leaf in zip(KEPT, kept, strict=True):
                old = state[f"{name}.{i}"]
                # A row that read nothing keeps its bits, even where the computation's dtype is the narrower one.
                leaves[f"{name}.{i}"] = torch.where(read[:, None, None, None], leaf.to(old.dtype), old)
            if one.memory is not None:
                own = {f"{f.name}.{i}": getattr(one.memory, f.name) for f in fields(one.memory)}
                if own.get(f"waiting.{i}") is not None:
                    own[f"waiting.{i}"] = turned(own[f"waiting.{i}"], -(start + lengths))
                leaves |= {name: leaf for name, leaf in own.items() if name in state}
        return State(state.spec, leaves)


class Unroll(nn.Module):
    """Senri for training; see the module's docstring. Implements `model.state.Trainable`.

    Parameters are named as a checkpoint's tensors; `lm_head` is absent where it is the embedding.
    """

    def __init__(
        self, config: Config, remembering: frozenset[int] | None = None, decaying: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()
        self.config = config
        self.spec: StateSpec = config.state_spec(torch.float32)
        self.vocab_size = config.vocab_size
        self.model = Body(config, remembering, decaying)
        self.lm_head: nn.Linear | None = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def load(cls, config: Config, tensors: Tensors) -> Unroll:
        """With a checkpoint's weights, as float32. Memories and decays are there where the checkpoint has them; a gate
        that is absent is closed. Raises `WeightsError` naming the tensor that is missing or does not fit."""
        with torch.device("meta"):  # nothing is drawn at random that is overwritten next
            unroll = cls(config, *memories_in(config, tensors))
        unroll.to_empty(device="cpu")
        fill(unroll, tensors)
        return unroll

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32 at least, of hidden states (…, E) that went through the final norm."""
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return accurate(linear(hidden, weight))

    def hidden(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False, trace: bool = False
    ) -> Unrolled:
        """`unroll` up to the head, which costs V/E times a hidden state and may be wanted in a few places only."""
        out: Unrolled = self.model(tokens, lengths, state, checkpoint=checkpoint, trace=trace)
        return out

    def unroll(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """See `model.state.Trainable.unroll`. checkpoint: compute again in the backward pass instead of keeping."""
        out = self.hidden(tokens, lengths, state, checkpoint=checkpoint)
        return self.head(out.hidden), out.state


def turned(ring: Tensor, by: Tensor) -> Tensor:
    """Each row of a ring (B, h, W, C) with index by[b] mod W first."""
    W = ring.shape[2]
    index = (by[:, None] + torch.arange(W, device=ring.device)) % W  # (B, W)
    return ring.gather(2, index[:, None, :, None].expand_as(ring))


def memories_in(config: Config, tensors: Tensors) -> tuple[frozenset[int], frozenset[int]]:
    """Which layers of a gated_delta checkpoint have a memory, and which of those a decay."""
    names = set(tensors.names())
    remembering = frozenset(i for i in config.memory_layers if has_recall(i, tensors))
    return remembering, frozenset(i for i in remembering if f"model.layers.{i}.memory.A_log" in names)


def fill(module: nn.Module, tensors: Tensors) -> None:
    """Copy a checkpoint's tensors into the parameters of the same names.

    Two may be absent: a gate, which is closed then, and the whole of a layer's memory, which is left as it is. Raises
    `WeightsError` for any other.
    """
    names = set(tensors.names())
    memories = {prefix for name in names for prefix, found, _ in [name.partition(".memory.")] if found}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            prefix, of_memory, _ = name.partition(".memory.")
            if name.endswith(".self_attn.gate") and name not in names:
                parameter.fill_(CLOSED)
                continue
            if of_memory and prefix not in memories:
                continue
            weight = tensors.expect(name, tuple(parameter.shape))
            parameter.copy_(weight if isinstance(weight, Tensor) else weight.dequantise())


def detach(state: State) -> State:
    """The same state with no history: where truncated backpropagation through time is cut."""
    return State(state.spec, {name: leaf.detach() for name, leaf in state.items()})


def _trace(seen: list[dict[int, Seen]]) -> Trace:
    layers = seen[0] if seen else {}
    beta = {i: [piece[i].beta for piece in seen] for i in layers}
    return Trace(
        reads={i: torch.cat([piece[i].read for piece in seen], dim=1) for i in layers},
        beta={i: torch.cat([b for b in bs if b is not None], dim=1) for i, bs in beta.items() if bs[0] is not None},
    )
