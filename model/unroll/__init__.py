"""Senri for training: `unroll`, out of place and differentiable through the state.

window.py   attention over window and sinks on a timeline
memory.py   Infini-attention's recurrence over segments
layers.py   the layers as modules, with the checkpoints' names
body.py     the whole model, piece by piece, and the way from and to a `State`
"""

from model.unroll.body import Body, Trace, Unroll, Unrolled, detach, fill, memories_in

__all__ = ["Body", "Trace", "Unroll", "Unrolled", "detach", "fill", "memories_in"]
