"""The hash of a state's specification, for those who know its leaves and have no tensors.

The one definition: `model.state.StateSpec.hash` and whoever checks a stored state both come here. Pure; no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

# name, shape without the batch axis, dtype without "torch.", ring axis or None.
Described = tuple[str, Sequence[int], str, int | None]


def spec_hash(leaves: Iterable[Described]) -> str:
    """16 hex digits that change with any name, shape, dtype, ring axis, or the order of the leaves."""
    described = [[name, list(shape), f"torch.{dtype}", ring] for name, shape, dtype, ring in leaves]
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=8).hexdigest()
