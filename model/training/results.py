"""The file of results: one record for each thing measured, kept as soon as it is, so that nothing is measured twice.

A record is plain JSON: what was measured (its key: part, condition, window, and what the part adds), which story or
text, and sums that can be added up (`report`). Running again with more stories, distances or conditions adds
records; an interrupted run goes on where it stopped.

Invariants: the file is always whole (written beside, then put in its place); it holds one model's results only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
SUMS = frozenset({"asked", "exact", "among", "tokens", "hits", "nll", "squares"})  # everything else is the key


class ResultsError(ValueError):
    """The file of results is another model's or no such file; the message names it."""


def key_of(record: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What a record is of: the same twice is the same measurement."""
    return tuple(sorted((name, value) for name, value in record.items() if name not in SUMS))


class Results:
    """The records in a folder. about: what is said of the model and the runs, beside the records."""

    def __init__(self, folder: Path, model: Mapping[str, Any], *, fresh: bool = False) -> None:
        """fresh: forget what is there. Raises `ResultsError` where the folder holds another model's results."""
        self.path = folder / "results.json"
        self.about: dict[str, Any] = {"format": FORMAT, "model": dict(model), "runs": []}
        self._records: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if not fresh and self.path.exists():
            self._load()

    def _load(self) -> None:
        try:
            stored = json.loads(self.path.read_bytes())
            records, runs, version = stored["records"], list(stored["runs"]), stored["format"]
            known = stored["model"]["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ResultsError(f"{self.path}: is no file of results: {e}") from e
        if version != FORMAT or known != self.about["model"]["fingerprint"]:
            raise ResultsError(
                f"{self.path}: holds the results of another model, window or version; take another --out, or --fresh"
            )
        self.about["runs"] = runs
        self._records = {key_of(record): record for record in records}

    def __contains__(self, record: object) -> bool:
        return isinstance(record, Mapping) and key_of(record) in self._records

    @property
    def records(self) -> list[dict[str, Any]]:
        """All of them, in the order they were made."""
        return list(self._records.values())

    def run(self, described: Mapping[str, Any]) -> None:
        """Note a run: its command, versions, seeds."""
        self.about["runs"].append(dict(described))

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Keep records, on disk when this returns."""
        for record in records:
            self._records[key_of(record)] = dict(record)
        self.save()

    def save(self) -> None:
        """Write the file anew."""
        beside = self.path.with_suffix(".tmp")
        lines = ",\n".join(json.dumps(record) for record in self._records.values())
        head = json.dumps(self.about, indent=1).rstrip("}\n ")
        beside.write_text(f'{head},\n "records": [\n{lines}\n]\n}}\n', encoding="utf-8")
        os.replace(beside, self.path)
