"""A run's folder.

    settings.yaml     what was asked for
    history.jsonl     a line for each step that was noted
    results.json      best and final figures, tokens, seconds, versions
    curves.png        loss, learning rate and what the task measures, over steps
    last/             a checkpoint to serve, and training.safetensors to go on from
    best/             the checkpoint with the least validation loss
    tokeniser/        of task language: the tokeniser that was trained for it
    recording/        of task recorded: what the base model's layers were given; it has settings of its own

Invariants: a file is whole or not there (written beside, then put in its place); history beyond the step that is gone
on from is cut away, so that a step is noted once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.training.trainer.settings import Settings, TrainingError, dump, load

Record = dict[str, Any]
# What a run writes into its folder and begins anew with; a recording takes long, and serves the next run too.
CONTENTS = ("settings.yaml", "history.jsonl", "results.json", "curves.png", "last", "best", "tokeniser")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. step: steps done; tokens: read in them; seconds: spent; best: the least validation loss."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None


class Run:
    """The folder of one run; see the module's docstring."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Begins it, or opens it to go on. Raises `TrainingError` where it was begun with other settings."""
        self.folder = folder
        self.settings = settings
        path = folder / "settings.yaml"
        if path.exists():
            begun = load(path)
            if changed := _changed(begun, settings):
                raise TrainingError(
                    f"{folder}: was begun with another {', '.join(changed)}; take another --out, or --fresh"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write(path, dump(settings).encode())

    def forget(self) -> None:
        """Where nothing was trained yet: as if it had not been begun, so that other settings can be."""
        if not (self.folder / "last" / "training.safetensors").exists():
            (self.folder / "settings.yaml").unlink(missing_ok=True)

    @property
    def history(self) -> list[Record]:
        """What was noted, in order."""
        return read_history(self.folder)

    def note(self, record: Mapping[str, Any]) -> None:
        """One line more."""
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def results(self, body: Mapping[str, Any]) -> None:
        """The figures of the run as it stands."""
        write(self.folder / "results.json", (json.dumps(body, indent=1) + "\n").encode())

    def keep(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """What to go on from."""
        last = self.folder / "last"
        last.mkdir(exist_ok=True)
        beside = last / "training.tmp"
        # Progress is inside the file: the two can't be of different steps.
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            beside,
            metadata={"progress": json.dumps([progress.step, progress.tokens, progress.seconds, progress.best])},
        )
        os.replace(beside, last / "training.safetensors")

    def resume(self) -> tuple[dict[str, Tensor], Progress] | None:
        """What `keep` kept last; None for a run that begins. Later lines of the history are cut away.

        Raises `TrainingError` where it cannot be read."""
        path = self.folder / "last" / "training.safetensors"
        if not path.exists():
            write(self.folder / "history.jsonl", b"")
            return None
        try:
            tensors = load_file(path)
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            progress = Progress(*json.loads(header["__metadata__"]["progress"]))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as e:
            raise TrainingError(f"{path}: cannot be gone on from: {e}") from e
        kept = [record for record in read_history(self.folder, whole=False) if record["step"] <= progress.step]
        write(self.folder / "history.jsonl", "".join(json.dumps(r) + "\n" for r in kept).encode())
        return tensors, progress


def read_history(folder: Path, *, whole: bool = True) -> list[Record]:
    """The history in a run's folder; empty where there is none. whole: or else the last line may be cut short, as a
    process that was killed leaves it, and does not count. Raises `TrainingError` for a damaged line."""
    path = folder / "history.jsonl"
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if not whole and lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as e:
        raise TrainingError(f"{path}: is damaged: {e}") from e


def write(path: Path, content: bytes) -> None:
    """A file anew, whole or as it was."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(content)
    os.replace(beside, path)


def _changed(begun: Settings, now: Settings) -> list[str]:
    """Fields that may not change within a run: all but those that say how it is computed."""
    a, b = begun.model_dump(), now.model_dump()
    free = {"device", "checkpoint", "evaluate_every"}
    return sorted(name for name in a.keys() | b.keys() if name not in free and a.get(name) != b.get(name))
