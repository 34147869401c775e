"""The state space operations of the reference backend: the papers' loops, a token of a row at a time.

Shapes depend on neither batch nor chunk, so that a row's result is bit-identical at any number of rows and any division
of its tokens; the fast backend falls back on these where a width is not made for vectors.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model.selective_scan import Selective, causal_conv_ref, selective_scan_ref


def spans(x: Tensor, lengths: Tensor) -> Iterator[tuple[int, slice]]:
    """Of each row that has tokens: the row, and where they stand in x (rows·T, width)."""
    T = len(x) // max(len(lengths), 1)
    for row, n in enumerate(lengths.tolist()):
        if n:
            yield row, slice(row * T, row * T + n)


class RefStateSpaces:
    """`Ops.causal_conv` and `Ops.selective_scan`, plainly."""

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
