"""The hybrid's layers as torch modules, with parameters under the names checkpoints have them; for training.

The equations are in `model.hybrid` and `model.mamba2`. Windows, norms and MLPs are those of `model.unroll`; here is the
Mamba-2 mixer, in the blocked form of `model.ssd`. Each forward takes what its layer carries and returns what it carries
on: nothing mutable hangs on a module. Norms, convolutions and recurrences are computed in float32 at least, whatever
the parameters' dtype and under autocast too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from model.gated_delta import conv, tail_after
from model.hybrid_config import MAMBA, Config
from model.mamba2_config import Sizes
from model.ssd import Dual, gated_norm_ref, ssd_blocked, steps
from model.unroll.layers import MLP, RMSNorm, WindowAttention, accurate
from model.unroll.window import Kept, Piece

RANGE = 0.02  # standard deviation of new matrices and embeddings
SHORTEST, LONGEST = 1e-3, 1e-1  # Δ of new heads, as Mamba-2's
SLOWEST, FASTEST = 1.0, 16.0  # −A of new heads, as Mamba-2's


@dataclass(frozen=True, slots=True)
class States:
    """What a layer of Mamba-2 carries of B rows: conv (B, K−1, d + 2·G·N), the last inputs of the convolution; ssm (B,
    H, N, P), the state S of each head."""

    conv: Tensor
    ssm: Tensor


Carried = States | Kept  # of a layer of Mamba-2, of one with a window


class Taps(nn.Module):
    """A causal depthwise convolution's weight (channels, 1, K), of which the last tap is the token itself, and bias."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor, tail: Tensor) -> Tensor:
        """x (B, P, channels), tail (B, K−1, channels) → as x."""
        return silu(conv(x, accurate(self.weight).squeeze(1), tail) + accurate(self.bias))


class GatedNorm(nn.Module):
    """RMSNorm(y·silu(z)) over each of the groups, times weight (d,)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(sizes.inner))
        self.eps, self.groups = sizes.layer_norm_epsilon, sizes.n_groups

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y, z (B, P, d) → as y."""
        flat = gated_norm_ref(y.flatten(0, 1), z.flatten(0, 1), accurate(self.weight), self.eps, self.groups)
        return flat.view(y.shape)


class Mixer(nn.Module):
    """Mamba-2 between a layer's norm and the residual stream; H heads of width P, a state of N × P each."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        E, d, H = sizes.hidden_size, sizes.inner, sizes.num_heads
        self.sizes = sizes
        self.in_proj = nn.Linear(E, d + sizes.conv_width + H, bias=False)  # z, xBC, dt
        self.conv1d = Taps(sizes.conv_width, sizes.conv_kernel)
        begin = torch.exp(torch.rand(H) * math.log(LONGEST / SHORTEST) + math.log(SHORTEST))
        self.dt_bias = nn.Parameter(begin + torch.log(-torch.expm1(-begin)))  # softplus of it is `begin`
        self.A_log = nn.Parameter(torch.empty(H).uniform_(SLOWEST, FASTEST).log())
        self.D = nn.Parameter(torch.ones(H))
        self.norm = GatedNorm(sizes)
        self.out_proj = nn.Linear(d, E, bias=False)

    def forward(self, x: Tensor, before: States, real: Tensor) -> tuple[Tensor, States]:
        """x (B, T, E), normalised, of which `real` (B, T) bool are no padding → what is added, (B, T, E)."""
        c = self.sizes
        d, GN = c.inner, c.n_groups * c.state_size
        z, xBC, dt = self.in_proj(x).split((d, c.conv_width, c.num_heads), dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            z, xBC, dt = accurate(z), accurate(xBC), accurate(dt)
            u, B, C = self.conv1d(xBC, before.conv).split((d, GN, GN), dim=-1)
            fixed = Dual(-torch.exp(accurate(self.A_log)), accurate(self.D), accurate(self.dt_bias))
            y, ssm = ssd_blocked(
                u.unflatten(-1, (c.num_heads, c.head_dim)),  # (B, T, H, P)
                steps(dt, fixed).masked_fill(~real.unsqueeze(-1), 0.0),  # padding neither decays nor writes
                B.unflatten(-1, (c.n_groups, c.state_size)),  # (B, T, G, N)
                C.unflatten(-1, (c.n_groups, c.state_size)),
                fixed.A,
                fixed.D,
                before.ssm,
            )
            y = self.norm(y.flatten(2), z)  # (B, T, d)
        return self.out_proj(y.to(x.dtype)), States(tail_after(xBC, before.conv, real.sum(dim=1)), ssm)


class Window(WindowAttention):
    """Attention over window and sinks, and nothing else."""

    def forward(self, x: Tensor, piece: Piece, before: Kept) -> tuple[Tensor, Kept]:
        """x (B, T, E), normalised → what is added, (B, T, E)."""
        _, read, kept = self.local(x, piece, before)
        return self.joined(read.to(x.dtype)), kept


class Layer(nn.Module):
    """A mixer, `mixer` or `self_attn` as `kind` is, and an MLP."""

    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        E, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(E, eps)
        if kind == MAMBA:
            self.mixer = Mixer(config.mamba())
        else:
            self.self_attn = Window(config)
        self.post_attention_layernorm = RMSNorm(E, eps)
        self.mlp = MLP(E, config.intermediate_size)

    def forward(self, h: Tensor, before: Carried, real: Tensor, piece: Piece | None) -> tuple[Tensor, Carried]:
        """h (B, T, E), of which `real` (B, T) bool are no padding; piece: where windows are, there it stands on their
        timeline. The same after this layer, and what it carries on."""
        x, after = self.input_layernorm(h), before
        if isinstance(before, States):
            added, after = self.mixer(x, before, real)
        else:
            added, after = self.self_attn(x, piece, before)
        h = h + added
        return h + self.mlp(self.post_attention_layernorm(h)), after
