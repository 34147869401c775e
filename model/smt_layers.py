"""SMT's parts as torch modules, with parameters under the names checkpoints have them; for training.

The equations are in `model.smt`, `model.gpt2` and `model.selective_scan`. Nothing mutable hangs on a module: Mamba's
step takes its state and returns the next.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu, softplus
from torch.nn.functional import scaled_dot_product_attention as attention

from model.gpt2 import visible
from model.mamba_config import Sizes
from model.smt_config import Config

RANGE = 0.02  # standard deviation of new weights, as GPT-2's
SHORTEST, LONGEST = 1e-3, 1e-1  # Δ of new channels, as Mamba's


class Attention(nn.Module):
    """c_attn, c_proj."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.n_embd
        self.heads = config.n_head
        self.c_attn, self.c_proj = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (R, P, E); the last Q positions ask, seen (R, Q, P). (R, Q, E)."""
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (R, H, P, D) each
        found = attention(q[:, :, -seen.shape[1] :], k, v, attn_mask=seen.unsqueeze(1))
        out: Tensor = self.c_proj(found.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """c_fc, c_proj."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(config.n_embd, config.n_inner), nn.Linear(config.n_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """One layer of GPT-2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E, eps = config.n_embd, config.layer_norm_epsilon
        self.ln_1, self.attn = nn.LayerNorm(E, eps), Attention(config)
        self.ln_2, self.mlp = nn.LayerNorm(E, eps), MLP(config)

    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        """h (R, P, E), seen (R, Q, P) → the last Q positions after this layer."""
        kept: Tensor = h[:, -seen.shape[1] :] + self.attn(self.ln_1(h), seen)
        after: Tensor = kept + self.mlp(self.ln_2(kept))
        return after


class Transformer(nn.Module):
    """GPT-2 with its embedding: wte, wpe, h, ln_f."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.n_embd
        self.wte, self.wpe = nn.Embedding(config.vocab_size, E), nn.Embedding(config.window, E)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(E, config.layer_norm_epsilon)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=RANGE)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Windows x (R, P, E), valid (R, P) bool → the last position, (R, E)."""
        h, seen = x + self.wpe.weight, visible(valid)
        for i, block in enumerate(self.h):
            h = block(h, seen if i < len(self.h) - 1 else seen[:, -1:])
        last: Tensor = self.ln_f(h[:, -1])
        return last


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · weight over the last axis."""

    def __init__(self, width: int, eps: float, begin: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), begin))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight
        return scaled


class Taps(nn.Module):
    """A causal depthwise convolution's weight (d, 1, K), of which the last tap is the token itself, and bias (d,)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, seen: Tensor) -> Tensor:
        """seen (R, K, d), oldest first → (R, d)."""
        out: Tensor = (seen * self.weight.squeeze(1).T).sum(dim=1) + self.bias
        return out


class Mixer(nn.Module):
    """One selective state space, a token at a time."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        E, d, N, R = sizes.hidden_size, sizes.intermediate_size, sizes.state_size, sizes.time_step_rank
        self.parts = (R, N, N)
        self.in_proj, self.out_proj = nn.Linear(E, 2 * d, bias=False), nn.Linear(d, E, bias=False)
        self.conv1d = Taps(d, sizes.conv_kernel)
        self.x_proj, self.dt_proj = nn.Linear(d, R + 2 * N, bias=False), nn.Linear(R, d)
        self.A_log = nn.Parameter(torch.arange(1, N + 1).float().log().expand(d, N).clone())
        self.D = nn.Parameter(torch.ones(d))
        begin = torch.exp(torch.rand(d) * math.log(LONGEST / SHORTEST) + math.log(SHORTEST))
        with torch.no_grad():
            self.dt_proj.bias.copy_(begin + torch.log(-torch.expm1(-begin)))  # softplus of it is `begin`

    def forward(self, x: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (R, E), conv (R, K − 1, d), ssm (R, N, d) → what it adds (R, E), and the next of both."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        seen = torch.cat((conv, u.unsqueeze(1)), dim=1)  # (R, K, d)
        u = silu(self.conv1d(seen))
        low, B, C = self.x_proj(u).split(self.parts, dim=-1)
        delta = softplus(self.dt_proj(low))  # (R, d)
        decay = torch.exp(-delta.unsqueeze(1) * torch.exp(self.A_log).T)  # (R, N, d)
        ssm = decay * ssm + B.unsqueeze(-1) * (delta * u).unsqueeze(1)
        y = ((C.unsqueeze(-1) * ssm).sum(dim=1) + self.D * u) * silu(z)
        return self.out_proj(y), seen[:, 1:], ssm


class MambaLayer(nn.Module):
    """norm, mixer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm, self.mixer = RMSNorm(sizes.hidden_size, sizes.layer_norm_epsilon), Mixer(sizes)


class Memory(nn.Module):
    """The Mamba stack. A new one's outputs are as large as new embeddings."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MambaLayer(sizes) for _ in range(sizes.num_hidden_layers))
        self.norm_f = RMSNorm(sizes.hidden_size, sizes.layer_norm_epsilon, RANGE)

    def forward(self, h: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One token h (R, E); states: conv and ssm of each layer in turn. The output (R, E), and the next states."""
        after = []
        for i, layer in enumerate(self.layers):
            if isinstance(layer, MambaLayer):
                change, conv, ssm = layer.mixer(layer.norm(h), *states[2 * i : 2 * i + 2])
                h = h + change
                after += [conv, ssm]
        return self.norm_f(h), after


class Pool(nn.Module):
    """q_proj, k_proj."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (R, P, E), valid (R, P) bool, at least one each → (R, E)."""
        there = valid.unsqueeze(-1)
        q = self.q_proj((x * there).sum(dim=1) / there.sum(dim=1))
        scores = (q.unsqueeze(1) * self.k_proj(x)).sum(dim=-1) * x.shape[-1] ** -0.5  # (R, P)
        weights = scores.masked_fill(~valid, -torch.inf).softmax(dim=-1)
        pooled: Tensor = (weights.unsqueeze(-1) * x).sum(dim=1)
        return pooled
