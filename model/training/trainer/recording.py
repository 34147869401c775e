"""Recordings: what a memory reads of excerpts, kept in files, for a memory to be trained on alone (`recorder`).

An excerpt is some filler, facts, and filler between them; or a question with its answer, a little filler before it; or
filler, plain text and ordinary talk (`talk`). Each was read by the base model by itself, and of each of its tokens the
input of every tapped layer is kept, and at answers and in a part of the filler the residual stream before the last
norm. A story is then put together from excerpts at any distance, for nothing: the base model does not see a memory that
is read at the end, and what it sees of the text before an excerpt is only its window.

The last in ten of the files (`file-000.safetensors`) are never trained on. It knows nothing of memories.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from model.training.trainer.run import write
from model.training.trainer.settings import Recording, TrainingError


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: places [start, end) of a file; the place whose next token is the value's first, and the value's
    tokens, with what ends it; and how many tokens before it the model is to begin its answer with."""

    start: int
    end: int
    answer: int
    size: int
    lead: int


@dataclass(frozen=True, slots=True)
class Told:
    """An excerpt with facts, [start, end), and the questions about them."""

    start: int
    end: int
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded, of some files one after the other.

    tokens (N,) int64; inputs: layer → (N, E) float16; residual (K, E) float16, and kept (N,) int64: which of its rows a
    place has, −1 for none. told, flows: places; a flow is an excerpt of filler, [start, end). begins (N,) bool: places
    where the base model's own answer begins. rivals: of each excerpt with facts, those with a question whose answer's
    beginning ends in the same two tokens ("lives in"), which only the subject tells apart. reach: how many tokens the
    flows have up to the end of each. The last three follow from the others.
    """

    tokens: Tensor
    inputs: dict[int, Tensor]
    residual: Tensor
    kept: Tensor
    told: tuple[Told, ...]
    flows: tuple[tuple[int, int], ...]
    begins: Tensor = field(init=False)
    rivals: tuple[tuple[int, ...], ...] = field(init=False)
    reach: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        kept = self.kept >= 0
        begins = torch.zeros_like(kept)
        for a, b in self.flows:  # of what was said before an answer nothing is kept
            begins[a + 1 : b] = kept[a + 1 : b] & ~kept[a : b - 1]
        object.__setattr__(self, "begins", begins)
        object.__setattr__(self, "rivals", _rivals(self.tokens, self.told))
        object.__setattr__(self, "reach", tuple(accumulate(b - a for a, b in self.flows)))


def claim(folder: Path, settings: Recording, seed: int, layers: Sequence[int]) -> None:
    """Note what a folder is to hold. Raises `TrainingError` where it holds something else."""
    asked = settings.model_dump(mode="json", exclude={"folder"})
    about = json.dumps({"layers": sorted(layers), "seed": seed, **asked})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recording.json"
    if not path.exists():
        write(path, about.encode())
    elif path.read_text(encoding="utf-8") != about:
        raise TrainingError(f"{folder}: holds a recording made with other settings; take another folder")


def files(folder: Path, count: int) -> list[Path]:
    """The files of a recording, in order."""
    return [folder / f"file-{number:03}.safetensors" for number in range(count)]


def held_out(count: int) -> range:
    """Numbers of those that are never trained on."""
    return range(count - max(1, count // 10), count)


def load(paths: Sequence[Path]) -> Recorded:
    """Files one after the other."""
    parts: dict[str, list[Tensor]] = {}
    told: list[Told] = []
    flows: list[tuple[int, int]] = []
    size = rows = 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            spans: dict[str, Any] = json.loads(file.metadata()["spans"])
        tensors["kept"] = torch.where(tensors["kept"] < 0, -1, tensors["kept"] + rows)
        for one in spans["told"]:
            asked = (
                Asked(q["start"] + size, q["end"] + size, q["answer"] + size, q["size"], q["lead"])
                for q in one["asked"]
            )
            told.append(Told(one["start"] + size, one["end"] + size, tuple(asked)))
        flows += [(a + size, b + size) for a, b in spans["flows"]]
        size += len(tensors["tokens"])
        rows += len(tensors["residual"])
        for name, tensor in tensors.items():
            parts.setdefault(name, []).append(tensor)
    whole = {name: torch.cat(some) for name, some in parts.items()}
    inputs = {int(n.removeprefix("inputs.")): t for n, t in whole.items() if n.startswith("inputs.")}
    return Recorded(whole["tokens"], inputs, whole["residual"], whole["kept"], tuple(told), tuple(flows))


def _rivals(tokens: Tensor, told: Sequence[Told]) -> tuple[tuple[int, ...], ...]:
    ends = [{tuple(tokens[q.answer - 1 : q.answer + 1].tolist()) for q in one.asked} for one in told]
    alike: dict[tuple[int, ...], list[int]] = {}
    for n, some in enumerate(ends):
        for end in some:
            alike.setdefault(end, []).append(n)
    return tuple(tuple(sorted({m for end in some for m in alike[end]} - {n})) for n, some in enumerate(ends))
