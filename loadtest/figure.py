"""The picture of a long conversation: first-token time against turn number, a line for each server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from loadtest.stats import Outcome


def draw(said: Mapping[str, Sequence[Outcome]], file: Path) -> None:
    """Into a PNG. A turn that failed is a cross at the foot."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, some in said.items():
        whole = [one for one in some if one.error is None and one.ttft_s is not None]
        times = [1000 * one.ttft_s for one in whole if one.ttft_s is not None]
        [line] = axes.plot([one.number + 1 for one in whole], times, ".-", label=name)
        failed = [one.number + 1 for one in some if one.error is not None]
        axes.plot(failed, [0.0] * len(failed), "x", color=line.get_color(), clip_on=False)
    axes.set_xlabel("turn of the conversation")
    axes.set_ylabel("time to the first token, ms")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file)
