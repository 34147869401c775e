"""Random draws that depend on what they are for, and on nothing else."""

from __future__ import annotations

import random


def draws(*purpose: object) -> random.Random:
    """A generator for one purpose, such as (seed, number of the story, "facts"): the same one each time."""
    return random.Random("/".join(map(str, purpose)))  # noqa: S311  # texts are drawn, not secrets
