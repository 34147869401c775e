"""Records to pictures: recall over distance, associative recall, perplexity over position; small PNGs.

Needs matplotlib, but not pyplot, which keeps every figure until it is told to forget it. It knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.training.report import CELL, added, alike, apart, conditions, per_token
from model.training.subject import FULL, MEMORY, WINDOW, ZEROED

Record = Mapping[str, Any]
COLOURS = {MEMORY: "#0b6e99", ZEROED: "#8a8a8a", WINDOW: "#d08700", FULL: "#3a7d34"}  # the same in every plot
MORE_COLOURS = ("#a23b72", "#5b4fb0", "#b33a3a", "#2f9e9e")  # of cleanings
DASHES = ("-", "--", ":", "-.")


def draw(records: Sequence[Record], folder: Path) -> list[Path]:
    """One PNG for each part that was measured, of the texts that its tables compare; returns where they are."""

    def part(name: str) -> list[Record]:
        return [record for record in records if record["part"] == name]

    main, cleaned = apart(part("recall"))
    painters: list[tuple[str, Callable[[Sequence[Record]], Figure], list[Record]]] = [
        ("recall", _recall, alike(main, CELL)),
        ("clean", _recall, alike(cleaned, CELL)),
        ("mqar", _mqar, alike(part("mqar"), ("pairs", "distance"))),
        ("perplexity", _perplexity, alike(part("perplexity"), ("from", "to"))),
    ]
    made = []
    for name, paint, mine in painters:
        if mine:
            paint(mine).savefig(folder / f"{name}.png", format="png")
            made.append(folder / f"{name}.png")
    return made


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    across = min(2, panels)
    down = -(-panels // across)
    figure = Figure(figsize=(5.2 * across, 3.4 * down), dpi=80, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def _colours(records: Sequence[Record]) -> dict[str, str]:
    others = cycle(MORE_COLOURS)
    return {name: COLOURS.get(name) or next(others) for name in conditions(records)}


def _style(colour: str, colours: Mapping[str, str]) -> dict[str, Any]:
    """Lines that lie on each other are all seen: the first is the broadest."""
    width = 1.0 + 0.9 * (len(colours) - 1 - list(colours.values()).index(colour))
    return {"color": colour, "linewidth": width, "marker": "o", "markersize": width + 1.5}


def _over_distance(axis: Axes, title: str, records: Sequence[Record]) -> None:
    distances = sorted({record["distance"] for record in records})
    axis.set_xscale("log")
    axis.set_xticks(distances, [f"{distance:,}" for distance in distances])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("distance, windows")
    axis.set_ylim(-0.03, 1.03)
    axis.set_title(title, fontsize=10)
    axis.grid(visible=True, alpha=0.3)


def _recall(records: Sequence[Record]) -> Figure:
    """A panel for each way of telling: right tokens over distance; colour is the condition, dashes the facts."""
    kinds = sorted({(record["form"], record["filler"]) for record in records})
    facts = sorted({record["facts"] for record in records})
    colours = _colours(records)
    figure, axes = _figure(len(kinds))
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    for axis, (form, filler) in zip(axes, kinds, strict=False):
        mine = [record for record in records if (record["form"], record["filler"]) == (form, filler)]
        for condition, colour in colours.items():
            for many, dash in zip(facts, DASHES * len(facts), strict=False):
                some = [r for r in mine if r["condition"] == condition and r["facts"] == many]
                points = {d: per_token(sums) for (d,), sums in added(some, ("distance",)).items()}
                if points:
                    name = f"{condition}, {many} fact{'s' if many > 1 else ''}"
                    axis.plot(list(points), list(points.values()), dash, label=name, **_style(colour, colours))
        _over_distance(axis, f"{form}, {filler}", mine)
        axis.set_ylabel("right tokens of the answers")
    named = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside lower center", fontsize=6, ncol=4)
    return figure


def _mqar(records: Sequence[Record]) -> Figure:
    pairs = sorted({record["pairs"] for record in records})
    colours = _colours(records)
    figure, (axis,) = _figure(1)
    for condition, colour in colours.items():
        for many, dash in zip(pairs, DASHES * len(pairs), strict=False):
            some = [r for r in records if r["condition"] == condition and r["pairs"] == many]
            points = {d: sums["among"] / sums["asked"] for (d,), sums in added(some, ("distance",)).items()}
            if points:
                name = f"{condition}, {many}"
                axis.plot(list(points), list(points.values()), dash, label=name, **_style(colour, colours))
    _over_distance(axis, "associative recall: right among the values shown", records)
    axis.set_ylabel("share of queries")
    axis.legend(fontsize=6, ncol=2, title="condition, pairs", title_fontsize=6)
    return figure


def _perplexity(records: Sequence[Record]) -> Figure:
    figure, (axis,) = _figure(1)
    colours = _colours(records)
    for condition, colour in colours.items():
        some = [record for record in records if record["condition"] == condition]
        points = {
            math.sqrt(max(start, stop / 4) * stop): math.exp(sums["nll"] / sums["tokens"])
            for (start, stop), sums in added(some, ("from", "to")).items()
        }
        axis.plot(list(points), list(points.values()), label=condition, **_style(colour, colours))
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda position, _: f"{position:,.0f}")
    axis.set_xlabel("position, tokens")
    axis.set_ylabel("perplexity")
    axis.set_title("perplexity by position", fontsize=10)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=7)
    return figure
