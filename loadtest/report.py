"""What a run is told as: a table for people, and one line of JSON for whatever comes after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loadtest.chaos import Verdict
from loadtest.compare import MEASURES, Compared, compared
from loadtest.long import trend
from loadtest.stats import Outcome, Slo, Spread, Summary

NOTHING = "-"


def seconds(value: float | None) -> str:
    """A time in the unit it is read in."""
    if value is None:
        return NOTHING
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def summary(found: Summary, slo: Slo) -> str:
    """One run at one server."""

    def row(name: str, some: Spread | None) -> list[str]:
        if some is None:
            return [name, *[NOTHING] * 5]
        return [name, *map(seconds, (some.p50, some.p95, some.p99, some.most, some.mean))]

    rows = [
        ["", "p50", "p95", "p99", "most", "mean"],
        row("first token", found.ttft_s),
        row("between tokens", found.gap_s),
        row("end to end", found.e2e_s),
    ]
    asked_of = [("first token", slo.ttft_s), ("between tokens", slo.gap_s), ("end to end", slo.e2e_s)]
    level = ", ".join(f"{name} ≤ {most:g} s" for name, most in asked_of if most is not None) or "whole"
    share = found.good / found.asked if found.asked else 0.0
    lines = [
        table(rows),
        "",
        f"{found.whole} of {found.asked} answers whole in {found.seconds:.1f} s: "
        f"{found.requests_per_s:.2f} requests/s, {found.tokens_per_s:.1f} tokens/s",
        f"goodput ({level}): {found.goodput_per_s:.2f} requests/s, {share:.1%} of what was asked",
        f"history and prompts: {found.read_tokens} tokens read, {found.cached_tokens} not read again",
    ]
    if found.unfinished:
        lines.append(f"unfinished when the run ended: {found.unfinished}")
    lines += [f"error: {kind} × {count}" for kind, count in found.errors.items()]
    return "\n".join(lines)


def trends(said: Mapping[str, Sequence[Outcome]], skip: int) -> str:
    """A long conversation at each server. skip: turns that the medians leave out."""
    rows = [["", "turns", "first tenth", "last tenth", "ratio", "first failure"]]
    for name, some in said.items():
        found = trend(some, skip)
        ratio = NOTHING if found.ratio is None else f"{found.ratio:.2f}"
        failed = NOTHING if found.failed is None else f"turn {found.failed[0]}: {found.failed[1]}"
        rows.append([name, str(found.whole), seconds(found.early_s), seconds(found.late_s), ratio, failed])
    return table(rows)


def comparison(found: Mapping[str, Sequence[Summary]]) -> str:
    """Every measure at every server."""

    def cell(one: Compared) -> str:
        if one.median is None:
            return NOTHING
        ratio = "" if one.ratio is None else f"  {one.ratio:.2f}× ({one.least:.2f}–{one.most:.2f})"
        return f"{one.median:.4g}{ratio}"

    rows = [["median, ratio to the first (range)", *found]]
    rows += [[name, *map(cell, compared(found, measure).values())] for name, measure in MEASURES.items()]
    counts = [f"{sum(one.whole for one in some)} of {sum(one.asked for one in some)}" for some in found.values()]
    return table([*rows, ["whole answers", *counts]])


def verdicts(found: Sequence[Verdict], asked: int) -> str:
    """What became of answers that were cut."""
    whole = sum(one.wrong is None for one in found)
    silence = max((one.silence_s for one in found), default=0.0)
    lines = [
        f"{whole} of {asked} answers whole, {sum(one.tokens for one in found)} tokens each heard once, "
        f"over {sum(one.cuts for one in found)} cuts and {sum(one.breaks for one in found)} other breaks",
        f"longest silence: {seconds(silence)}",
    ]
    if len(found) < asked:
        lines.append(f"unfinished when the run ended: {asked - len(found)}")
    return "\n".join([*lines, *(f"wrong: {one.wrong}" for one in found if one.wrong is not None)])


def figures(found: Summary) -> dict[str, Any]:
    """A summary as JSON has it."""
    rates = {name: getattr(found, name) for name in ("requests_per_s", "tokens_per_s", "goodput_per_s")}
    return asdict(found) | rates


def points(said: Sequence[Outcome], skip: int) -> dict[str, Any]:
    """A long conversation as JSON has it. ttft_s: of each turn, null where it failed."""
    found = trend(said, skip)
    return {
        **asdict(found),
        "ratio": found.ratio,
        "ttft_s": [one.ttft_s if one.error is None else None for one in said],
    }


def last_line(kind: str, **more: Any) -> str:
    """The line of JSON."""
    return json.dumps({"run": kind, **more}, ensure_ascii=False)
