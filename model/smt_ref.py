"""The naive oracle of SMT: a window built anew for every token, layer by layer, head by head, as `model.smt` reads.

No state, no batch, no mask: what is not there is left out, and what is there keeps its position. Float64 throughout:
for tests only. Shares nothing with `model.smt` but the configuration and the weights' names, and the scan's definition
(`model.selective_scan`).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from model.selective_scan import Selective, causal_conv_ref, selective_scan_ref
from model.smt_config import Config
from model.weights import Tensors


def logits_ref(
    config: Config, tensors: Tensors, tokens: list[int], frozen: Collection[int] = ()
) -> tuple[Tensor, list[Tensor]]:
    """Logits (T, V) float64 after every token of a text, and all SSM outputs (E,) there have been.

    frozen: indices of the tokens that are read while the memory is frozen.
    """
    model = _Model(config, tensors)
    n, m = config.n_ssm_outputs, config.m_input_tokens
    logits = []
    for t in range(len(tokens)):
        recent = range(max(0, t - m + 1), t + 1)
        outputs = model.outputs[-n:]
        window = outputs + [model.embedding(tokens[u]) for u in recent]
        places = [*range(n - len(outputs), n), *range(n + m - len(recent), n + m)]
        logits.append(model.read(window, places))
        if (t + 1) % config.stride == 0 and t not in frozen:
            own = [model.embedding(tokens[u]) for u in recent if u not in frozen]
            if own:
                model.write(outputs + own)
    return torch.stack(logits), model.outputs


class _Model:
    def __init__(self, config: Config, tensors: Tensors) -> None:
        self.c, self._tensors = config, tensors
        sizes = config.sizes
        d, N, K = sizes.intermediate_size, sizes.state_size, sizes.conv_kernel
        self.outputs: list[Tensor] = []
        self._tails = [torch.zeros(K - 1, d).double() for _ in range(sizes.num_hidden_layers)]
        self._states = [torch.zeros(N, d).double() for _ in range(sizes.num_hidden_layers)]

    def embedding(self, token: int) -> Tensor:
        """(E,)"""
        return self._w("transformer.wte.weight", self.c.vocab_size, self.c.n_embd)[token]

    def read(self, window: list[Tensor], places: list[int]) -> Tensor:
        """GPT-2 over what is in the window: the logits (V,) at its last position."""
        c, E = self.c, self.c.n_embd
        wpe = self._w("transformer.wpe.weight", c.window, E)
        hidden = [x + wpe[p] for x, p in zip(window, places, strict=True)]
        for i in range(c.n_layer):
            layer, D = f"transformer.h.{i}", E // c.n_head
            qkv = [self._affine(f"{layer}.attn.c_attn", self._ln(f"{layer}.ln_1", h), 3 * E) for h in hidden]
            after = []
            for j, h in enumerate(hidden):
                found = []
                for head in range(c.n_head):
                    q, k, v = (slice(part * E + head * D, part * E + (head + 1) * D) for part in range(3))
                    scores = torch.stack([qkv[j][q] @ qkv[u][k] for u in range(j + 1)]) / math.sqrt(D)
                    weights = torch.softmax(scores, dim=0)
                    found.append(sum((w * qkv[u][v] for u, w in enumerate(weights)), torch.zeros(D).double()))
                mixed = h + self._affine(f"{layer}.attn.c_proj", torch.cat(found), E)
                up = self._affine(f"{layer}.mlp.c_fc", self._ln(f"{layer}.ln_2", mixed), c.n_inner)
                bent = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
                after.append(mixed + self._affine(f"{layer}.mlp.c_proj", bent, E))
            hidden = after
        return self._w("transformer.wte.weight", c.vocab_size, E) @ self._ln("transformer.ln_f", hidden[-1])

    def write(self, window: list[Tensor]) -> None:
        """What is in the window, pooled, through Mamba."""
        E = self.c.n_embd
        q = self._w("pool.q_proj.weight", E, E) @ (sum(window, torch.zeros(E).double()) / len(window))
        scores = torch.stack([q @ (self._w("pool.k_proj.weight", E, E) @ x) for x in window]) / math.sqrt(E)
        h = sum((w * x for w, x in zip(torch.softmax(scores, dim=0), window, strict=True)), torch.zeros(E).double())
        for i in range(self.c.ssm_num_layers):
            h = h + self._mixer(i, self._rms(f"memory.layers.{i}.norm", h))
        self.outputs.append(self._rms("memory.norm_f", h))

    def _mixer(self, i: int, x: Tensor) -> Tensor:
        """One token through one layer of Mamba: (E,)."""
        c, name = self.c.sizes, f"memory.layers.{i}.mixer"
        E, d, N, R, K = c.hidden_size, c.intermediate_size, c.state_size, c.time_step_rank, c.conv_kernel
        u, z = (self._w(f"{name}.in_proj.weight", 2 * d, E) @ x).split(d)
        taps, bias = self._w(f"{name}.conv1d.weight", d, 1, K).view(d, K).T, self._w(f"{name}.conv1d.bias", d)
        conv, self._tails[i] = causal_conv_ref(u[None], taps, bias, self._tails[i])
        low, B, C = (self._w(f"{name}.x_proj.weight", R + 2 * N, d) @ conv[0]).split((R, N, N))
        dt = self._w(f"{name}.dt_proj.weight", d, R) @ low
        A = -torch.exp(self._w(f"{name}.A_log", d, N)).T
        fixed = Selective(A, self._w(f"{name}.D", d), self._w(f"{name}.dt_proj.bias", d))
        y, self._states[i] = selective_scan_ref(conv, dt[None], B[None], C[None], z[None], fixed, self._states[i])
        return self._w(f"{name}.out_proj.weight", E, d) @ y[0]

    def _affine(self, name: str, x: Tensor, out: int) -> Tensor:
        return self._w(f"{name}.weight", out, len(x)) @ x + self._w(f"{name}.bias", out)

    def _ln(self, name: str, x: Tensor) -> Tensor:
        scaled = (x - x.mean()) / torch.sqrt(x.var(correction=0) + self.c.layer_norm_epsilon)
        return scaled * self._w(f"{name}.weight", len(x)) + self._w(f"{name}.bias", len(x))

    def _rms(self, name: str, x: Tensor) -> Tensor:
        return x / torch.sqrt(x.pow(2).mean() + self.c.ssm_norm_epsilon) * self._w(f"{name}.weight", len(x))

    def _w(self, name: str, *shape: int) -> Tensor:
        weight = self._tensors.expect(name, shape)
        return (weight if isinstance(weight, Tensor) else weight.dequantise()).double()
