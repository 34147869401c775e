"""Records to tables. A figure stands with how many things it was measured on; an interval is Wilson's, at 95 %. The
figures of a row are of the same texts.

It knows nothing of models or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model.training.results import SUMS
from model.training.subject import FULL, MEMORY, WINDOW, ZEROED

Record = Mapping[str, Any]
_FIRST = (MEMORY, ZEROED, WINDOW, FULL)


def added(records: Iterable[Record], names: Sequence[str]) -> dict[tuple[Any, ...], dict[str, float]]:
    """The sums of all records that agree in the named fields, in the order in which they come up sorted."""
    total: dict[tuple[Any, ...], dict[str, float]] = {}
    for record in records:
        into = total.setdefault(tuple(record[name] for name in names), {})
        for name in SUMS & record.keys():
            into[name] = into.get(name, 0) + record[name]
    return dict(sorted(total.items(), key=lambda item: tuple(map(_order, item[0]))))


def alike(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """The records that can be compared: those of texts that were measured under every condition of their cell (the
    records that agree in `names`). A text that one condition lacks would tell of the texts, not of the conditions."""

    def cell(record: Record) -> tuple[Any, ...]:
        return tuple(record[name] for name in names)

    def text(record: Record) -> tuple[Any, ...]:
        return tuple(sorted((n, v) for n, v in record.items() if n not in SUMS and n != "condition"))

    wanted: dict[tuple[Any, ...], set[str]] = {}
    found: dict[tuple[Any, ...], set[str]] = {}
    for record in records:
        wanted.setdefault(cell(record), set()).add(record["condition"])
        found.setdefault(text(record), set()).add(record["condition"])
    return [record for record in records if found[text(record)] == wanted[cell(record)]]


def _order(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def conditions(records: Iterable[Record]) -> list[str]:
    """The conditions measured: the memory first, then what it is compared with."""
    there = dict.fromkeys(record["condition"] for record in records)
    return [c for c in _FIRST if c in there] + sorted(c for c in there if c not in _FIRST)


def interval(hits: float, asked: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not asked:
        return 0.0, 1.0
    z, p = 1.96, hits / asked
    middle, reach = p + z * z / (2 * asked), z * math.sqrt(p * (1 - p) / asked + z * z / (4 * asked * asked))
    return max(0.0, (middle - reach) / (1 + z * z / asked)), min(1.0, (middle + reach) / (1 + z * z / asked))


def per_token(sums: Mapping[str, float]) -> float:
    """Share of the scored tokens that were the likeliest; not a number where there were none."""
    return sums["hits"] / sums["tokens"] if sums["tokens"] else math.nan


def markdown(about: Mapping[str, Any], records: Sequence[Record]) -> str:
    """All tables, with what was measured and by which commands."""
    model = about["model"]
    layers = ", ".join(map(str, model["memory_layers"])) or "none"
    lines = [
        f"# Evaluation of {model['name']}",
        "",
        f"Window {model['window']}, memory layers {layers} ({model['memory_rule']}), {model['state_bytes']:,} bytes a "
        f"session, kernels {model['kernels']}, fingerprint {model['fingerprint']}.",
    ]
    for part, table in (("recall", _recall), ("mqar", _mqar), ("perplexity", _perplexity)):
        if mine := [record for record in records if record["part"] == part]:
            lines += ["", *table(mine)]
    if about["runs"]:
        lines += ["", "## Made by", "", *(f"- `{run['command']}` (seed {run['seed']})" for run in about["runs"])]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [list(head), *map(list, rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in wide) + "|", *lines[1:]]


CELL = ("form", "filler", "facts", "distance", "templates")


def _recall(records: Sequence[Record]) -> list[str]:
    main, cleaned = apart(records)
    lines = [
        "## Recall of facts",
        "",
        "Exact answers / right tokens of the answers, as shares; distance in windows. A digit guessed is right one "
        "time in ten. 0 exact of so few questions may still be a true share up to what stands under `0 ≤` (95 %).",
        "",
        *_told(main),
    ]
    if cleaned:
        lines += ["", "## Recall after cleaning the memory", "", *_told(cleaned)]
    return lines


def apart(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Records of recall: those of the model and what it is compared with, and those of cleanings with, beside them,
    the memory before and without."""
    cells = {tuple(r[name] for name in CELL) for r in records if r["condition"] not in _FIRST}
    beside = [r for r in records if tuple(r[name] for name in CELL) in cells]
    return [r for r in records if r["condition"] in _FIRST], [r for r in beside if r["condition"] not in (WINDOW, FULL)]


def _told(records: Sequence[Record]) -> list[str]:
    columns = conditions(records)
    sums = added(alike(records, CELL), (*CELL, "condition"))
    rows = []
    for cell in added(records, CELL):
        form, filler, facts, distance, templates = cell
        found = [sums.get((*cell, condition)) for condition in columns]
        asked = max((int(one["asked"]) for one in found if one), default=0)
        kind = f"{form}, {filler}" + ("" if templates == "all" else f" ({templates})")
        unsure = f"{interval(0, asked)[1]:.2f}"
        rows.append([kind, str(facts), f"{distance:,}", str(asked), unsure, *(_shares(one) for one in found)])
    return _table(["told", "facts", "distance", "questions", "0 ≤", *columns], rows)


def _shares(sums: Mapping[str, float] | None) -> str:
    if sums is None:
        return "–"
    return f"{sums['exact'] / sums['asked']:.2f} / {per_token(sums):.2f}"


def _mqar(records: Sequence[Record]) -> list[str]:
    columns = conditions(records)
    sums = added(alike(records, ("pairs", "distance")), ("pairs", "distance", "condition"))
    rows = []
    for pairs, distance in added(records, ("pairs", "distance")):
        found = [sums.get((pairs, distance, condition)) for condition in columns]
        asked = max((int(one["asked"]) for one in found if one), default=0)
        cells = [
            "–" if one is None else f"{one['exact'] / one['asked']:.2f} / {one['among'] / one['asked']:.2f}"
            for one in found
        ]
        rows.append([str(pairs), f"{distance:,}", str(asked), f"{1 / pairs:.2f}", *cells])
    return [
        "## Associative recall (MQAR)",
        "",
        "The value is the likeliest of all tokens / of the values shown; distance in windows; chance is of the latter.",
        "",
        *_table(["pairs", "distance", "queries", "chance", *columns], rows),
    ]


def _perplexity(records: Sequence[Record]) -> list[str]:
    columns = conditions(records)
    sums = added(alike(records, ("from", "to")), ("from", "to", "condition"))
    rows = []
    for start, stop in added(records, ("from", "to")):
        found = [sums.get((start, stop, condition)) for condition in columns]
        judged = max((int(one["tokens"]) for one in found if one), default=0)
        cells = ["–" if one is None else f"{math.exp(one['nll'] / one['tokens']):.2f}" for one in found]
        rows.append([f"{start:,} – {stop:,}", str(judged), *cells])
    corpora = ", ".join(sorted({str(record["corpus"]) for record in records}))
    return [
        "## Perplexity by position",
        "",
        f"Text: {corpora}; the same tokens are judged in every column.",
        "",
        *_table(["positions", "tokens judged", *columns], rows),
    ]
