"""What an architecture may ask of a backend: `Ops`, chosen once at load.

Every backend (`ref`, `cpu`, `cuda`) implements the same few operations with the same laws:

- **Rows are independent.** No reduction crosses rows; what shares a batch changes nothing beyond float rounding, and
  nothing at all where `Ops.batch_invariant` is true: then a row's result is bit-identical for any number of rows and
  any division of its tokens into chunks.
- **Activations are float32 tensors**, contiguous, (N, width); a caller may compute on them with torch. Where an
  operation of several rows of tokens is meant, N = B·T, row-major: row b·T + t is token t of row b.
- **Weights are prepared once**: `linear` and `embedding` copy what they need, the caller may drop the weight.
- Whatever is written to a state is rounded to `state_dtype` first and used rounded, so that a token read back from
  the ring is the token that was used inside its chunk.

It knows nothing of layers, models or sessions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from model.recall import Fixed, Leaves
    from model.selective_scan import Selective
    from model.ssd import Dual
    from model.weights import Weight


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """The geometry of one model's windowed attention.

    heads H query heads share kv_heads G key/value heads, H/G in a row each (query head h uses kv head h // (H/G)).
    window W: positions a token sees, itself included. num_sinks: first tokens of the session that stay visible.
    inv_freq: D/2 angular frequencies in radians per position, float64 (see `rope_frequencies`).
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    num_sinks: int
    inv_freq: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly")
        if len(self.inv_freq) * 2 != self.head_dim:
            raise ValueError(
                f"head_dim {self.head_dim} needs {self.head_dim // 2} frequencies, not {len(self.inv_freq)}"
            )
        if not 0 <= self.num_sinks <= self.window:
            raise ValueError(f"num_sinks {self.num_sinks} must lie between 0 and the window {self.window}")

    @property
    def qkv_width(self) -> int:
        """Width of the stacked product: H query heads, then G key heads, then G value heads."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def scale(self) -> float:
        """Softmax scale, 1/√D."""
        return 1.0 / math.sqrt(self.head_dim)


def rope_frequencies(theta: float, head_dim: int) -> tuple[float, ...]:
    """theta^(−2i/D) for i < D/2 (Su et al. 2021, arXiv 2104.09864, eq. 15), float64."""
    return tuple(theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2))


@dataclass(frozen=True, slots=True)
class Rope:
    """Where the tokens of one `advance` lie, and the angles that go with it; made once, used by every layer.

    position (B,) int64: tokens each row had read before. lengths (B,) int64: real tokens of each row, 0 ≤ lengths ≤ T.
    cos, sin (B, T, D/2) float32: of position + t, angles computed in float64.
    query_cos, query_sin (D/2,) float32: of the re-based query position W, at which sinks are met. A sink j is met only
        once it has left the window, j ≤ p − W, so the re-based position min(p, W) is W whenever it is used.
    sink_cos, sink_sin (num_sinks, D/2) float32: of the sinks' own positions 0 … num_sinks−1.
    """

    spec: WindowSpec
    T: int
    position: Tensor
    lengths: Tensor
    cos: Tensor
    sin: Tensor
    query_cos: Tensor
    query_sin: Tensor
    sink_cos: Tensor
    sink_sin: Tensor


class Linear(Protocol):
    """One or several matrices stacked along their outputs, ready to be multiplied."""

    @property
    def in_features(self) -> int:
        """Width of what is read."""
        ...

    @property
    def out_features(self) -> int:
        """Width of what is returned: the sum over the stacked matrices."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, in) float32 contiguous → x·Wᵀ (N, out) float32, the stacked matrices' outputs side by side."""
        ...


class Embedding(Protocol):
    """Token ids to rows of the embedding matrix."""

    def __call__(self, ids: Tensor) -> Tensor:
        """ids (N,) int64, each in 0 … V−1 → (N, E) float32, a new tensor. Raises IndexError on other ids."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """One decoder layer's weights: two norms (E,) float32, and products made by the same backend.

    h ← h + out(attention(qkv(norm(h)))), then h ← h + down(swiglu(gate_up(norm(h)))).
    """

    input_norm: Tensor
    qkv: Linear
    out: Linear
    post_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Recollection:
    """A memory of the gated delta rule (`model.recall`): its products, made by the same backend, and the rest.

    project: what `Fixed.widths` names, stacked, of x. value: W_v of the tokens' embeddings, which go through a norm of
    weight `unit` (E,), ones; or None where the values are in `project`.
    """

    project: Linear
    value: Linear | None
    unit: Tensor
    fixed: Fixed
    out: Linear

    def read(self, ops: Ops, x: Tensor, e: Tensor, leaves: Leaves, rope: Rope) -> Tensor:
        """What is read after each token, (B·T, E); the leaves are written.

        x (B·T, E): a layer's normalised input; e (B·T, E): the tokens' embeddings.
        """
        products, values, place = self.project(x), None, rope.position
        if self.value is not None:
            values = self.value(ops.add_norm(e, None, self.unit, self.fixed.eps))
        return self.out(ops.recall(products, values, self.fixed, leaves=leaves, place=place, lengths=rope.lengths))


class Window(NamedTuple):
    """One layer's part of the state, as `Ops.window_attention` has it."""

    ring_k: Tensor
    ring_v: Tensor
    sink_k: Tensor
    sink_v: Tensor


class Stack(Protocol):
    """Several layers, one after the other, as one call."""

    def __call__(
        self,
        h: Tensor,
        delta: Tensor | None,
        rope: Rope,
        windows: Sequence[Window],
        e: Tensor | None = None,
        memories: Sequence[Leaves] = (),
    ) -> Tensor:
        """Run the layers on h (B·T, E), to which delta (B·T, E) or None is still to be added.

        h is updated in place, `windows` (one for each layer) and `memories` (one for each memory) too; e (B·T, E): the
        tokens' embeddings, where there is a memory. Returns what is still to be added to h, a new tensor:
        the next stack's or `add_norm`'s delta. The result is bit for bit that of the single operations.
        """
        ...


class Ops(Protocol):
    """One backend, as one model uses it."""

    @property
    def name(self) -> str:
        """What to call it in logs and reports, e.g. "ref" or "cpu-avx2"."""
        ...

    @property
    def device(self) -> torch.device:
        """Where weights, states, tokens and everything it is given or returns are."""
        ...

    @property
    def state_dtype(self) -> torch.dtype:
        """Dtype of ring and sink leaves."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a row's result is bit-identical at every number of rows and chunk size."""
        ...

    def linear(self, weights: Sequence[Weight]) -> Linear:
        """Prepare `weights`, each (out_i, in), stacked along out. Raises ValueError if their inputs differ."""
        ...

    def embedding(self, weight: Weight) -> Embedding:
        """Prepare the (V, E) embedding matrix."""
        ...

    def add_norm(self, h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        """h += delta (in place, where there is a delta), then RMSNorm(h)·weight.

        h, delta (N, E) float32 contiguous; weight (E,) float32. Returns (N, E) float32, a new tensor.
        RMSNorm: x / √(mean(x²) + eps) · weight (Zhang and Sennrich 2019, arXiv 1910.07467).
        """
        ...

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """gate_up (N, 2F): silu(gate)·up, (N, F), where silu(x) = x·sigmoid(x) (Shazeer 2020, arXiv 2002.05202)."""
        ...

    def rope(self, spec: WindowSpec, position: Tensor, lengths: Tensor, T: int) -> Rope:
        """Angles for tokens position … position + T − 1 of each row. position, lengths (B,) int64; exact to 10^9."""
        ...

    def window_attention(
        self, qkv: Tensor, rope: Rope, *, ring_k: Tensor, ring_v: Tensor, sink_k: Tensor, sink_v: Tensor
    ) -> Tensor:
        """Causal attention over the last W positions plus the sinks that have left the window; writes the state.

        qkv (B·T, (H+2G)·D) float32, before RoPE, left unmodified.
        ring_k, ring_v (B, G, W, D), sink_k, sink_v (B, G, num_sinks, D), state_dtype, updated in place; rows may be
        any distance apart (a slice of a pool), each row contiguous.

        The token at absolute position p:
        - writes its key after RoPE, and its value, to ring slot p mod W; where p < num_sinks also its key *before*
          RoPE, and its value, to sink slot p; all rounded to state_dtype.
        - attends to positions max(0, p−W+1) … p of the ring, and to the sinks j ≤ p−W, whose keys are rotated at j and
          met by a second query rotated at the re-based position W, so that distances never exceed W. One softmax over
          both, scale 1/√D.
        Token t sees exactly what it would have seen had the chunk come one token at a time; T may exceed W. For
        t ≥ lengths[b] nothing is written and the output row is zero.

        Returns (B·T, H·D) float32, a new tensor.
        """
        ...

    def recall(
        self, x: Tensor, values: Tensor | None, fixed: Fixed, *, leaves: Leaves, place: Tensor, lengths: Tensor
    ) -> Tensor:
        """All that a memory of the gated delta rule does between its products (`model.recall`); writes the state.

        x (B·T, P): the products side by side (`Fixed.widths`); values (B·T, V) where they are not among them; float32,
        contiguous. leaves: updated in place, rows any distance apart, each contiguous. place (B,) int64: the position
        of each row's first token, in the ring. lengths (B,) int64.
        Returns (B·T, V), a new tensor; 0 for t ≥ lengths[b].
        """
        ...

    def causal_conv(self, x: Tensor, taps: Tensor, bias: Tensor | None, *, state: Tensor, lengths: Tensor) -> Tensor:
        """silu of a depthwise causal convolution over each row's tokens; writes the state.

        x (B·T, C) float32, its rows any distance apart, each contiguous; taps (K, C), the last of which meets the token
        itself, and bias (C,), contiguous float32. state (B, K−1, C) float32, the last inputs, oldest first, updated in
        place, rows any distance apart, each contiguous. lengths (B,) int64.
        Returns (B·T, C), a new tensor; 0 for t ≥ lengths[b]. (`model.selective_scan.causal_conv_ref`)
        """
        ...

    def selective_scan(
        self,
        x: Tensor,
        dt: Tensor,
        B: Tensor,
        C: Tensor,
        z: Tensor | None,
        fixed: Selective,
        *,
        state: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """Mamba's recurrence over each row's tokens (`model.selective_scan`); writes the state.

        x, dt, z (rows·T, d) and B, C (rows·T, N) float32, their rows any distance apart, each contiguous; dt before its
        bias and softplus; z None: no gate. state (rows, N, d) float32, updated in place, rows any distance apart, each
        contiguous. lengths (rows,) int64.
        Returns y (rows·T, d), a new tensor; 0 for t ≥ lengths[b].
        """
        ...

    def ssd(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, fixed: Dual, *, state: Tensor, lengths: Tensor
    ) -> Tensor:
        """Mamba-2's recurrence over each row's tokens (`model.ssd`); writes the state.

        x (rows·T, H·P), dt (rows·T, H), B and C (rows·T, G·N), float32, their rows any distance apart, each contiguous;
        dt before its bias, softplus and limits. state (rows, H, N, P) float32, updated in place, rows any distance
        apart, each contiguous. lengths (rows,) int64.
        Returns y (rows·T, H·P), a new tensor; 0 for t ≥ lengths[b].
        """
        ...

    def gated_norm(self, y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_first: bool) -> Tensor:
        """`model.ssd.gated_norm_ref`: RMSNorm of y·silu(z) over each of `groups` parts of a row, times weight.

        y (N, d) contiguous, z (N, d) its rows any distance apart, each contiguous; weight (d,); float32. norm_first:
        the norm of y alone, then the gate. Returns (N, d), a new tensor.
        """
        ...

    def stack(
        self, blocks: Sequence[Block], eps: float, memories: Mapping[int, Recollection] | None = None
    ) -> Stack:  # fmt: skip
        """Prepare layers that follow each other with nothing in between; eps is that of their norms.

        memories: by the index of the block whose normalised input they read; what they read is added at the end.
        """
        ...

    def warm_up(self) -> None:
        """Compile whatever is compiled on first use (cached on disk where the backend can), so no request waits."""
        ...
