"""The state space operations of the reference backend: the papers' loops, a token of a row at a time.

Shapes depend on neither batch nor chunk, so that a row's result is bit-identical at any number of rows and any division
of its tokens; the fast backend falls back on these where a width is not made for vectors.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model.selective_scan import Selective, causal_conv_ref, selective_scan_ref
from model.ssd import Dual, gated_norm_ref, ssd_ref, steps


def spans(x: Tensor, lengths: Tensor) -> Iterator[tuple[int, slice]]:
    """Of each row that has tokens: the row, and where they stand in x (rows·T, width)."""
    T = len(x) // max(len(lengths), 1)
    for row, n in enumerate(lengths.tolist()):
        if n:
            yield row, slice(row * T, row * T + n)


class RefStateSpaces:
    """`Ops.causal_conv`, `selective_scan`, `ssd` and `gated_norm`, plainly."""

    __slots__ = ()

    def causal_conv(self, x: Tensor, taps: Tensor, bias: Tensor | None, *, state: Tensor, lengths: Tensor) -> Tensor:
        out = torch.zeros(x.shape)
        for row, own in spans(x, lengths):
            out[own], tail = causal_conv_ref(x[own], taps, bias, state[row])
            state[row] = tail
        return out

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
        out = torch.zeros(x.shape)
        for row, own in spans(x, lengths):
            gate = None if z is None else z[own]
            out[own], after = selective_scan_ref(x[own], dt[own], B[own], C[own], gate, fixed, state[row])
            state[row] = after
        return out

    def ssd(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, fixed: Dual, *, state: Tensor, lengths: Tensor
    ) -> Tensor:
        _, H, N, P = state.shape
        out = torch.zeros(x.shape)
        for row, own in spans(x, lengths):
            for t in range(own.start, own.stop):
                token = slice(t, t + 1)
                y, after = ssd_ref(
                    x[token].reshape(1, H, P),
                    steps(dt[token], fixed),
                    B[token].reshape(1, -1, N),
                    C[token].reshape(1, -1, N),
                    fixed.A,
                    fixed.D,
                    state[row],
                )
                out[t] = y.view(-1)
                state[row] = after
        return out

    def gated_norm(self, y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_first: bool) -> Tensor:
        out = torch.empty(y.shape)
        for n in range(len(y)):
            out[n] = gated_norm_ref(y[n : n + 1], z[n : n + 1], weight, eps, groups, norm_first)[0]
        return out
