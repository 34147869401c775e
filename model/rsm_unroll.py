"""RSM for training: all logits of a text and the state after it, differentiable through the state.

    RsmUnroll(config).unroll(tokens (B, T), lengths (B,), state) -> (logits (B, T, V), state)

The state has the leaves of `Rsm.advance`'s with float32 keys and values, so that a state of one goes on in the other.
A text is read a chunk at a time, all its places side by side; with rows at different places of their chunks, in pieces
that end where any row's chunk does. Gradients flow through the slots from chunk to chunk and from call to call; what
the leaves hold that follows from the slots is computed anew, so that they flow through those products too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from model.rsm import sinusoids
from model.rsm_config import Config
from model.rsm_layers import Carried, Layer, Piece, RMSNorm, Sync
from model.state import State, StateSpec
from model.weights import Tensors

__all__ = ["Body", "RsmUnroll"]

# Standard deviation of new embeddings: below the sinusoids' 0.7, so that heads find the place before soon. Measured at
# character level: after 350 steps a training loss of 2.38 where embeddings of deviation 1 came to 2.45.
EMBEDDING = 0.3


class Body(nn.Module):
    """Everything but the head: parameters `embed_tokens`, `layers`, `sync`, `norm`."""

    places: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.hidden_size
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, E)
        nn.init.normal_(self.embed_tokens.weight, std=EMBEDDING)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.sync = Sync(config) if config.sync_every else None
        self.norm = RMSNorm(E, config.rms_norm_eps)
        self.register_buffer("places", sinusoids(config.chunk_size, E), persistent=False)

    def forward(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """Hidden states (B, T, E) after the final norm, 0 at padding, and the state after them."""
        T, C = tokens.shape[1], self.config.chunk_size
        frozen, filled, chunks = state["frozen"].bool(), state["filled"], state["chunks"]
        carried, top = self._begin(state)
        starts, ends = filled.tolist(), lengths.tolist()
        edges = sorted({0, T, *(t for f in starts for t in range(C - f, T, C))})
        hidden = [self.embed_tokens(tokens[:, :0])]
        for a, b in pairwise(edges):
            columns = torch.arange(a, b, device=tokens.device)
            real = columns < lengths.unsqueeze(1)
            place = torch.where(real, filled.unsqueeze(1) + columns - a, C)
            whole = b - a == C and min(ends) >= b and all((f + a) % C == 0 for f in starts)
            piece, read = Piece(place, frozen, C, whole), self._read
            if checkpoint:
                read = partial(recomputed, read, use_reentrant=False, preserve_rng_state=False)
            h, carried, top = read(tokens[:, a:b], carried, top, piece)
            hidden.append(h)
            filled = filled + real.sum(dim=1)
            if any((f + b) % C == 0 for f in starts):
                ended = filled == C
                chunks = chunks + ended
                due = ended & (chunks == self.config.sync_every)
                carried = self._end_chunk(carried, top, ended, frozen, due)
                filled, chunks = torch.where(ended, 0, filled), torch.where(due, 0, chunks)
        after = self._end(state, carried, top, lengths, filled, chunks)
        return torch.cat(hidden, dim=1), after

    def _each(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _read(
        self, tokens: Tensor, carried: tuple[Carried, ...], top: Tensor | None, piece: Piece
    ) -> tuple[Tensor, tuple[Carried, ...], Tensor | None]:
        """One piece through all layers: hidden (B, P, E), what the layers carry on, the chunk's tokens for a sync."""
        C = self.config.chunk_size
        h = self.embed_tokens(tokens) + self.places[piece.place.clamp(max=C - 1)]  # (B, P, E)
        after = []
        for layer, before in zip(self._each(), carried, strict=True):
            h, one = layer(h, before, piece)
            after.append(one)
        if self.sync is not None and top is not None:
            top = piece.put(top, h, 1)
            h = h + self.sync.read(self.sync.read_norm(h), self._mean(carried))
        return self.norm(h).masked_fill(~piece.real.unsqueeze(-1), 0.0), tuple(after), top

    def _mean(self, carried: tuple[Carried, ...]) -> Tensor:
        """Z (B, S, E), of the slots of all layers."""
        return torch.stack([layer.write.slots + one.M for layer, one in zip(self._each(), carried, strict=True)]).mean(
            dim=0
        )

    def _end_chunk(
        self, carried: tuple[Carried, ...], top: Tensor | None, ended: Tensor, frozen: Tensor, due: Tensor
    ) -> tuple[Carried, ...]:
        """The chunks of the rows `ended` (B,) written, but where frozen; `due`: a sync too."""
        after = []
        for layer, before in zip(self._each(), carried, strict=True):
            one, written = layer.end(before, ended & ~frozen)
            if self.sync is not None and top is not None and bool((written & due).any()):
                one = self.sync.end(layer.write.slots, one, top, written & due)
            after.append(replace(one, mask=one.mask & ~ended.unsqueeze(1)))
        return tuple(after)

    def _begin(self, state: State) -> tuple[tuple[Carried, ...], Tensor | None]:
        dtype = self.norm.weight.dtype
        carried = tuple(
            Carried(
                state[f"k.{i}"].to(dtype),
                state[f"v.{i}"].to(dtype),
                state[f"mask.{i}"].bool(),
                state[f"M.{i}"].to(dtype),
                state[f"writes.{i}"],
            )
            for i in range(self.config.num_hidden_layers)
        )
        return carried, state["top"].to(dtype) if self.sync is not None else None

    def _end(
        self,
        state: State,
        carried: tuple[Carried, ...],
        top: Tensor | None,
        lengths: Tensor,
        filled: Tensor,
        chunks: Tensor,
    ) -> State:
        """The state after a text: new leaves, in the dtypes of the old ones."""
        read = lengths > 0
        new = {
            "position": state["position"] + lengths,
            "pending": torch.where(read, 0, state["pending"]),
            "filled": filled,
            "chunks": chunks,
        }
        for i, (layer, one) in enumerate(zip(self._each(), carried, strict=True)):
            keep = layer.read
            new |= {f"k.{i}": one.k, f"v.{i}": one.v, f"mask.{i}": one.mask, f"M.{i}": one.M, f"writes.{i}": one.writes}
            new |= {f"slot_k.{i}": keep.split(keep.k_proj(one.M)), f"slot_v.{i}": keep.split(keep.v_proj(one.M))}
        if self.sync is not None and top is not None:
            Z = torch.stack([one.M for one in carried]).mean(dim=0)
            read_by = self.sync.read
            new |= {"top": top, "sync_k": read_by.split(read_by.k_proj(Z)), "sync_v": read_by.split(read_by.v_proj(Z))}
        return state.followed_by(new, read)


class RsmUnroll(nn.Module):
    """RSM for training; see the module's docstring. Implements `model.state.Trainable`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spec: StateSpec = config.state_spec(torch.float32)
        self.vocab_size = config.vocab_size
        self.model = Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def load(cls, config: Config, tensors: Tensors) -> RsmUnroll:
        """With a checkpoint's weights, as float32. Raises `WeightsError` naming the tensor that does not fit."""
        model = cls(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                weight = tensors.expect(name, tuple(parameter.shape))
                parameter.copy_(weight if isinstance(weight, Tensor) else weight.dequantise())
        return model

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32 at least, of hidden states (…, E) that went through the final norm."""
        logits: Tensor = self.lm_head(hidden)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def hidden(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """`unroll` up to the head: (B, T, E), 0 at padding, and the state after."""
        found: tuple[Tensor, State] = self.model(tokens, lengths, state, checkpoint=checkpoint)
        return found

    def unroll(
        self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool = False
    ) -> tuple[Tensor, State]:
        """See `model.state.Trainable.unroll`. checkpoint: compute again in the backward pass instead of keeping."""
        hidden, after = self.hidden(tokens, lengths, state, checkpoint=checkpoint)
        return self.head(hidden), after
