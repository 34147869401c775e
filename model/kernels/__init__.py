"""Backends: the same few operations, plainly (`ref`), fast (`cpu`) and on a GPU (`cuda`), chosen once at load.

`interface.py` says what the operations are and what laws they keep.
"""

from __future__ import annotations

from typing import Literal

import torch

from model.kernels.interface import (
    Block,
    Embedding,
    Linear,
    Ops,
    Recollection,
    Rope,
    Stack,
    Window,
    WindowSpec,
    rope_frequencies,
)

Kind = Literal["auto", "ref", "cpu", "cuda"]

__all__ = [
    "Block",
    "Embedding",
    "Kind",
    "Linear",
    "Ops",
    "Recollection",
    "Rope",
    "Stack",
    "Window",
    "WindowSpec",
    "choose_ops",
    "rope_frequencies",
]


def choose_ops(kind: Kind = "auto", *, batch_invariant: bool = False, state_dtype: torch.dtype | None = None) -> Ops:
    """The backend to load a model with.

    kind: "ref" for the readable float32 one, "cpu" for the fast one, "cuda" for state space models on a GPU; "auto" is
    "cpu", since no model is known here (`model.registry.ops_for` asks the model too).
    batch_invariant: one numeric path at every row count and chunk size. ("ref" and "cuda" make no such promise:
    ValueError.)
    state_dtype: of ring and sink leaves, float32 or bfloat16; default float32 for "ref", bfloat16 for "cpu".
    Raises ValueError for anything else, and where "cuda" is not to be had.
    """
    if state_dtype not in (None, torch.float32, torch.bfloat16):
        raise ValueError(f"state_dtype must be float32 or bfloat16, not {state_dtype}")
    if kind in ("ref", "cuda") and batch_invariant:
        raise ValueError(f'the "{kind}" backend is not batch-invariant')
    if kind == "cuda":
        from model.kernels.cuda import CudaOps  # noqa: PLC0415

        return CudaOps()
    if kind == "ref":
        # Each backend is imported only when chosen: the fast one brings a compiler with it.
        from model.kernels.ref import RefOps  # noqa: PLC0415

        return RefOps(state_dtype=state_dtype or torch.float32)
    if kind in ("auto", "cpu"):
        from model.kernels.cpu import CpuOps  # noqa: PLC0415

        return CpuOps(state_dtype=state_dtype or torch.bfloat16)
    raise ValueError(f'kind must be "auto", "ref", "cpu" or "cuda", not {kind!r}')
