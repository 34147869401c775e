"""The state space operations on a GPU: the Triton kernels of `mamba_ssm`, with the reference's signatures.

`CudaOps` serves Mamba and Mamba-2; windows and other memories have no GPU kernels yet and are refused by name. Products
and norms are torch's on float32 tensors. Which rows run and how far is expressed by Δ = 0, for which the recurrence
leaves its state as it is; so every step has the same shape and nothing waits for the device.

The kernels take strides, so a slice of a pool of states is given to them as it lies, transposed to their (P, N). The
update would also pick its rows by slot indices (`state_batch_indices`). They would spare an engine the moving of rows,
which it does once where a row joins or leaves a batch. But the scan knows no indices, nor do the convolution and the
leaves that torch writes: all of these would gather and scatter in every step instead. A batch that lies dense at the
front of its pool is a view for each of them, and its indices would be 0, 1, 2, …

Δ is whole when it reaches the kernels; the zeros they get as dt_bias are for the update's own caller, which asks for
its strides whether there is one or not. Of Mamba-1 there is no Triton kernel that scans a chunk from a state; its
prefill is one update per token. Where `causal_conv1d` is not installed the convolution is torch's.

It was written without a GPU at hand: neither the kernels nor `tests/gpu/` have been run. What is tested is everything
around the kernels, with stand-ins of their signatures, also on a device that only pretends to be another. It knows
nothing of layers, models or sessions.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus

from model.gated_delta import tail_after
from model.kernels.ref import RefOps
from model.selective_scan import Selective
from model.ssd import Dual, gated_norm_ref, steps

if TYPE_CHECKING:
    from model.weights import Tensors

BLOCK = 64  # tokens of a block of `mamba_chunk_scan_combined`
GPU = torch.device("cuda")
INSTEAD = "set ops to auto or cpu"


class Kernels(NamedTuple):
    """`mamba_ssm`'s `selective_state_update` and `mamba_chunk_scan_combined`; `causal_conv1d`'s `causal_conv1d_fn`, or
    None where that is not installed."""

    state_update: Callable[..., Tensor]
    chunk_scan: Callable[..., tuple[Tensor, Tensor]]
    conv: Callable[..., Tensor] | None


def missing() -> str | None:
    """What this machine lacks for the backend, in words: a CUDA device, or the extra `cuda`. None where it has both."""
    if not torch.cuda.is_available():
        return "a CUDA device, and torch finds none"
    if find_spec("mamba_ssm") is None:
        return "the extra `cuda`, which is not installed (docs/operating.md says how)"
    return None


def load_kernels() -> Kernels:
    """Raises ValueError saying what is missing, or what of the extra cannot be imported."""
    if (lacking := missing()) is not None:
        raise ValueError(f'the "cuda" backend needs {lacking}: {INSTEAD}')
    if "selective_scan_cuda" not in sys.modules and find_spec("selective_scan_cuda") is None:
        # Built without its CUDA extension, the package still imports it; only its own Mamba-1 layer would use it.
        sys.modules["selective_scan_cuda"] = ModuleType("selective_scan_cuda")
    triton = "mamba_ssm.ops.triton"
    try:
        conv = importlib.import_module("causal_conv1d").causal_conv1d_fn if find_spec("causal_conv1d") else None
        return Kernels(
            importlib.import_module(f"{triton}.selective_state_update").selective_state_update,
            importlib.import_module(f"{triton}.ssd_combined").mamba_chunk_scan_combined,
            conv,
        )
    except ImportError as error:
        raise ValueError(f"the extra `cuda` is installed and cannot be imported ({error}): set ops to cpu") from error


class OnDevice:
    """A checkpoint's weights, on a device as they are read. Implements `model.weights.Tensors`."""

    def __init__(self, tensors: Tensors, device: torch.device | str) -> None:
        self._tensors = tensors
        self._device = torch.device(device)

    def names(self) -> Sequence[str]:
        """Names of all tensors."""
        return self._tensors.names()

    def expect(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name, dense; the error of the checkpoint where it does not fit."""
        weight = self._tensors.expect(name, shape)
        return (weight if isinstance(weight, Tensor) else weight.dequantise()).to(self._device)


@dataclass(frozen=True, slots=True)
class CudaOps(RefOps):
    """`Ops` of the state space models on tensors of a CUDA device; weights come through `OnDevice`.

    kernels: by default those that are installed, or the ValueError of `load_kernels`.
    """

    name: str = "cuda"
    device: torch.device = GPU
    kernels: Kernels = field(default_factory=load_kernels)

    def causal_conv(self, x: Tensor, taps: Tensor, bias: Tensor | None, *, state: Tensor, lengths: Tensor) -> Tensor:
        rows = _rows(x, lengths)  # (B, T, C)
        if rows.shape[1] == 0:
            return torch.zeros_like(x)
        if self.kernels.conv is not None:
            # Channels lie side by side in x and in the state: the layout with states of `causal_conv1d_fn`.
            y = self.kernels.conv(rows.mT, taps.T.contiguous(), bias, initial_states=state.mT, activation="silu")
        else:
            seen = torch.cat((state, rows), dim=1).mT  # (B, C, K−1+T)
            y = silu(conv1d(seen, taps.T.unsqueeze(1), bias, groups=taps.shape[1]))
        out = y.mT * _live(rows, lengths)
        state.copy_(tail_after(rows, state, lengths))
        return out.reshape(x.shape)

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
        u = _rows(x, lengths)
        delta = softplus(_rows(dt, lengths) + fixed.dt_bias) * _live(u, lengths)  # (rows, T, d), 0 where it is padding
        b, c = _rows(B, lengths), _rows(C, lengths)
        gate = None if z is None else _rows(z, lengths)
        out, nothing = torch.zeros(u.shape, device=x.device), torch.zeros_like(fixed.dt_bias)
        for t in range(u.shape[1]):
            out[:, t] = self.kernels.state_update(
                state.mT,
                u[:, t],
                delta[:, t],
                fixed.A.T,
                b[:, t],
                c[:, t],
                fixed.D,
                None if gate is None else gate[:, t],
                dt_bias=nothing,
            )
        return (out * _live(u, lengths)).reshape(x.shape)

    def ssd(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, fixed: Dual, *, state: Tensor, lengths: Tensor
    ) -> Tensor:
        rows, H, N, P = state.shape
        u = _rows(x, lengths)
        T = u.shape[1]
        if T == 0:
            return torch.zeros_like(x)
        live = _live(u, lengths)
        delta = steps(_rows(dt, lengths), fixed) * live  # (rows, T, H)
        b, c = (_rows(v, lengths).view(rows, T, -1, N) for v in (B, C))
        heads, held = u.view(rows, T, H, P), state.mT  # (rows, H, P, N)
        if T == 1:
            wide = (H, P, N)  # one decay for all of a head: strides of 0, by which the kernel knows it
            out = self.kernels.state_update(
                held,
                heads[:, 0],
                delta[:, 0, :, None].expand(-1, -1, P),
                fixed.A[:, None, None].expand(wide),
                b[:, 0],
                c[:, 0],
                fixed.D[:, None].expand(H, P),
                dt_bias=torch.zeros_like(fixed.dt_bias)[:, None].expand(H, P),
            )
            out = out.unsqueeze(1)
        else:
            out, after = self.kernels.chunk_scan(
                heads,
                delta,
                fixed.A,
                b,
                c,
                BLOCK,
                D=fixed.D,
                initial_states=held.contiguous(),
                return_final_states=True,
            )
            # A row without tokens keeps its bits, whatever the blocks' products made of them.
            held.copy_(torch.where((lengths > 0)[:, None, None, None], after, held))
        return (out.reshape(rows, T, H * P) * live).reshape(x.shape)

    def gated_norm(self, y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_first: bool) -> Tensor:
        return gated_norm_ref(y, z, weight, eps, groups, norm_first)

    def rope(self, *_: object, **__: object) -> NoReturn:
        """Raises ValueError."""
        raise ValueError('the "cuda" backend has no kernels for windows: it serves Mamba and Mamba-2')

    def stack(self, *_: object, **__: object) -> NoReturn:
        """Raises ValueError."""
        raise ValueError('the "cuda" backend has no kernels for windows: it serves Mamba and Mamba-2')

    def recall(self, *_: object, **__: object) -> NoReturn:
        """Raises ValueError."""
        raise ValueError('the "cuda" backend has no kernel for the gated delta rule: it serves Mamba and Mamba-2')


def _rows(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B·T, C), its rows any distance apart → (B, T, C), sharing memory."""
    B = len(lengths)
    T = len(x) // max(B, 1)
    return x.as_strided((B, T, x.shape[1]), (T * x.stride(0), x.stride(0), x.stride(1)))


def _live(rows: Tensor, lengths: Tensor) -> Tensor:
    """Of rows (B, T, …): 1 for tokens and 0 for padding, (B, T, 1)."""
    return (torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]).unsqueeze(-1).float()
