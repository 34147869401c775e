"""What runs look like: training curves as a PNG, and a table of several runs side by side. It knows no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.training.trainer.run import Record, read_history
from model.training.trainer.settings import TrainingError, load

COLOURS = ("#0b6e99", "#d08700", "#3a7d34", "#a23b72", "#5b4fb0", "#b33a3a", "#2f9e9e", "#8a8a8a")
_NOT_DRAWN = {"step"}
SMOOTH = 0.9


def plot(folders: Sequence[Path], out: Path) -> Path:
    """Every figure that was noted over the steps, a panel each, a colour for each run; validation with dots.

    Raises `TrainingError` where a folder has no history."""
    runs = {folder: _history(folder) for folder in folders}
    names = dict.fromkeys(
        name.removeprefix("validation_")
        for records in runs.values()
        for r in records
        for name in r
        if name not in _NOT_DRAWN
    )
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.4 * across, 2.9 * down), dpi=80, layout="constrained")
    axes = [axis for row in figure.subplots(down, across, squeeze=False) for axis in row]
    for axis, name in zip(axes, names, strict=False):
        for (folder, records), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
            _lines(axis, name, records, folder.name, colour)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xlabel("step")
        axis.grid(visible=True, alpha=0.3)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", fontsize=7, ncol=4)
    figure.savefig(out, format="png")
    return out


def _lines(axis: Axes, name: str, records: Sequence[Record], run: str, colour: str) -> None:
    trained = [(r["step"], r[name]) for r in records if name in r]
    judged = [(r["step"], r[f"validation_{name}"]) for r in records if f"validation_{name}" in r]
    if trained:
        steps, values = zip(*trained, strict=True)
        axis.plot(steps, _smooth(values), color=colour, linewidth=1, alpha=0.6, label=f"{run}, training")
    if judged:
        steps, values = zip(*judged, strict=True)
        axis.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.4, label=f"{run}, validation")


def _smooth(values: Sequence[float]) -> list[float]:
    """An exponential mean, begun with the first value."""
    smoothed, mean = [], values[0]
    for value in values:
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        smoothed.append(mean)
    return smoothed


def compare(folders: Sequence[Path]) -> str:
    """A table in Markdown: of each run what differs in its settings, its steps, tokens, minutes and last figures.

    Raises `TrainingError` where a folder has no results."""
    runs = [(folder, _results(folder), load(folder / "settings.yaml").model_dump(mode="json")) for folder in folders]
    flat = [_flat(settings) for _, _, settings in runs]
    differing = [
        name for name in dict.fromkeys(n for f in flat for n in f) if len({json.dumps(f.get(name)) for f in flat}) > 1
    ]
    figures = list(dict.fromkeys(name for _, results, _ in runs for name in results["final"]))
    head = ["run", *differing, "steps", "tokens", "minutes", "best loss", *figures]
    rows = []
    for (folder, results, _), settings in zip(runs, flat, strict=True):
        rows.append(
            [
                folder.name,
                *(_short(settings.get(name)) for name in differing),
                f"{results['steps']:,}",
                f"{results['tokens']:,}",
                f"{results['seconds'] / 60:.1f}",
                _short(results["best"].get("loss")),
                *(_short(results["final"].get(name)) for name in figures),
            ]
        )
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in body.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _short(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _history(folder: Path) -> list[Record]:
    if not (records := read_history(folder)):
        raise TrainingError(f"{folder}: no run with a history")
    return records


def _results(folder: Path) -> dict[str, Any]:
    try:
        body = json.loads((folder / "results.json").read_bytes())
    except (OSError, ValueError) as e:
        raise TrainingError(f"{folder}: no run with results: {e}") from e
    assert isinstance(body, dict)
    return body
