"""Where the answers of stories side by side are, and how many were wholly right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def places_of(each: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Rows and places (N,) int64 of what lies at `each` row's places."""
    rows = [b for b, some in enumerate(each) for _ in some]
    places = [t for some in each for t in some]
    return torch.tensor(rows, device=device), torch.tensor(places, device=device)


def exact(right: Sequence[bool], sizes: Sequence[Sequence[int]]) -> float:
    """The share of questions whose answer's tokens were all the likeliest. sizes: of each story's answers."""
    whole, at = [], 0
    for story in sizes:
        for size in story:
            whole.append(all(right[at : at + size]))
            at += size
    return sum(whole) / len(whole)
