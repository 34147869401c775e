"""Recordings: what a memory reads of excerpts, made once and kept in files, for a memory to be trained on alone.

An excerpt is some filler, facts, and filler between them; or a question with its answer, a little filler before it; or
filler, plain text and ordinary talk (`talk`). Each is read by the base model by itself, and of each of its tokens the
input of every tapped layer is kept, and at answers and in a part of the filler the residual stream before the last
norm. A story is then put together from excerpts at any distance, for nothing: the base model does not see a memory that
is read at the end, and what it sees of the text before an excerpt is only its window.

Files are written one by one (`file-000.safetensors`), each a function of the settings and its number, so that making
them can be stopped and gone on with. The last in ten are never trained on, and their facts are of relations that the
others don't tell (`HELD`). It knows nothing of memories.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from model.state import State, as_rows
from model.tokenizer import Tokenizer
from model.training.draws import draws
from model.training.lessons import RELATIONS, another_value, draw_lessons
from model.training.trainer.settings import Recording, TrainingError
from model.training.trainer.stories import CORRECTED, Stories
from model.training.trainer.talk import REPLIES, Talk
from model.training.trainer.taps import Taps

HELD = frozenset(range(0, len(RELATIONS), 9))  # relations that only the files held out tell
TAUGHT = frozenset(range(len(RELATIONS))) - HELD
FLOW = 640  # tokens of an excerpt of filler
WHOLE = 6  # of so many excerpts of filler, one is read to the end, so that its text can be judged
CHUNK, ROWS = 128, 16  # tokens of a row, and rows, that are read at a time
OVERLAP = 4  # tokens before a question that go with it: its convolutions look back


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: places [start, end) of a file, the place whose next token is the answer's first, and its tokens."""

    start: int
    end: int
    answer: int
    size: int


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
    beginning ends in the same two tokens ("lives in"), which only the subject tells apart.
    """

    tokens: Tensor
    inputs: dict[int, Tensor]
    residual: Tensor
    kept: Tensor
    told: tuple[Told, ...]
    flows: tuple[tuple[int, int], ...]
    begins: Tensor
    rivals: tuple[tuple[int, ...], ...] = ()


class Recorder:
    """Makes the files of a recording in a folder."""

    def __init__(
        self, settings: Recording, seed: int, taps: Taps, talk: Talk, tokenizer: Tokenizer, text: NDArray[np.int32]
    ) -> None:
        self._settings, self._seed, self._taps, self._talk = settings, seed, taps, talk
        self._tokenizer, self._text = tokenizer, text
        self._stories = Stories(tokenizer, text)

    def make(self, folder: Path) -> None:
        """Make the files that are not there yet. Raises `TrainingError` where others were begun."""
        claim(folder, self._settings, self._seed, self._taps.layers)
        names = files(folder, self._settings.files)
        with tqdm(total=len(names), unit="file", desc="recording", initial=sum(f.exists() for f in names)) as bar:
            for number, file in enumerate(names):
                if not file.exists():
                    self._write(file, number)
                    bar.update()

    def _write(self, file: Path, number: int) -> None:
        s, rng = self._settings, draws(self._seed, "recording", number)
        relations = HELD if number in held_out(s.files) else TAUGHT
        told, asked = [], []
        for at in range(s.stories):
            excerpt, questions = self._story(rng, relations)
            told.append(excerpt)
            asked += [(at, *question) for question in questions]
        flows = [self._flow(rng) for _ in range(-(-s.filler // FLOW))]
        talked = self._talk.draw(rng, s.replies)
        sheet = _Sheet(self._taps)
        starts = sheet.read(told, [()] * len(told))
        spans = [range(prompt - 1, len(row) - 1) for _, row, _, prompt in asked]
        begun = sheet.read([row for _, row, _, _ in asked], spans)
        whole = [range(FLOW) if i % WHOLE == 0 else () for i in range(len(flows))]
        flown = sheet.read(flows, whole)
        replied = sheet.read([one.tokens for one in talked], [range(one.asked - 1, len(one.tokens)) for one in talked])
        questions_: list[list[Asked]] = [[] for _ in told]
        for (at, row, before, prompt), start in zip(asked, begun, strict=True):
            questions_[at].append(
                Asked(start + max(0, before - OVERLAP), start + len(row), start + prompt - 1, len(row) - prompt)
            )
        sheet.save(
            file,
            [Told(a, a + len(row), tuple(q)) for a, row, q in zip(starts, told, questions_, strict=True)],
            [(a, a + FLOW) for a in flown] + [(a, a + len(one.tokens)) for a, one in zip(replied, talked, strict=True)],
        )

    def _story(
        self, rng: random.Random, relations: frozenset[int]
    ) -> tuple[list[int], list[tuple[list[int], int, int]]]:
        """An excerpt with facts; and of each question its tokens, how many are before it, and where its answer is."""
        stories, chat = self._stories, self._stories.form(rng)
        row, asked = self._filler(rng, rng.randint(8, 60)), []
        for lesson in draw_lessons(rng, rng.randint(*self._settings.facts), relations):
            newest = lesson
            if rng.random() < CORRECTED:
                newest = another_value(rng, lesson)
                row += [*stories.tell(rng, lesson, chat), *self._filler(rng, rng.randint(0, 24))]
            row += stories.tell(rng, newest, chat)
            if rng.random() < 0.7:
                row += self._filler(rng, rng.randint(0, 32))
            for _ in range(rng.choice((1, 2))):
                prompt, answer = stories.ask(rng, newest, chat)
                before = self._filler(rng, rng.randint(8, 24))
                asked.append(([*before, *prompt, *answer], len(before), len(before) + len(prompt)))
        return row, asked

    def _flow(self, rng: random.Random) -> list[int]:
        """Filler as plain text, or as what the user says in a chat."""
        frame = self._stories.form(rng)
        if frame is None:
            return self._filler(rng, FLOW)
        row = self._filler(rng, 8)
        while len(row) < FLOW:
            said = self._filler(rng, rng.randint(12, 170))
            row += [*frame.head, *said, *frame.tail]
            row += [*self._tokenizer.encode(rng.choice(REPLIES), specials=False), *frame.end]
        return row[:FLOW]

    def _filler(self, rng: random.Random, length: int) -> list[int]:
        start = rng.randrange(len(self._text) - length)
        found: list[int] = self._text[start : start + length].tolist()
        return found


class _Sheet:
    """One file being written."""

    def __init__(self, taps: Taps) -> None:
        self._taps = taps
        self._size = self._rows = 0
        self._tokens: list[Tensor] = []
        self._inputs: dict[int, list[Tensor]] = {i: [] for i in taps.layers}
        self._residual: list[Tensor] = []
        self._kept: list[Tensor] = []

    def read(self, rows: Sequence[Sequence[int]], kept: Sequence[Sequence[int] | range]) -> list[int]:
        """Read excerpts, each by itself; where each begins. kept: the places of which the residual stream is kept."""
        begun = [0] * len(rows)
        # Rows of nearly one length side by side; those that are read to the end apart from the others.
        order = sorted(range(len(rows)), key=lambda i: (bool(kept[i]), len(rows[i])))
        first = 0
        while first < len(order):
            some = [i for i in order[first : first + ROWS] if bool(kept[i]) == bool(kept[order[first]])]
            first += len(some)
            inputs, residual = self._through([rows[i] for i in some], whole=bool(kept[some[0]]))
            for b, i in enumerate(some):
                begun[i] = self._size
                n = len(rows[i])
                places = torch.full((n,), -1, dtype=torch.int64)
                if residual is not None:
                    at = torch.tensor(list(kept[i]), dtype=torch.int64)
                    places[at] = torch.arange(self._rows, self._rows + len(at))
                    self._residual.append(residual[b, at].half())
                    self._rows += len(at)
                self._kept.append(places)
                self._tokens.append(torch.tensor(list(rows[i]), dtype=torch.int64))
                for layer, x in inputs.items():
                    self._inputs[layer].append(x[b, :n].half())
                self._size += n
        return begun

    def _through(self, rows: Sequence[Sequence[int]], *, whole: bool) -> tuple[dict[int, Tensor], Tensor | None]:
        tokens, lengths = as_rows(rows)
        state = State.zeros(self._taps.spec, len(rows))
        pieces: list[dict[int, Tensor]] = []
        ends: list[Tensor] = []
        for a in range(0, tokens.shape[1], CHUNK):
            piece = tokens[:, a : a + CHUNK].contiguous()
            seen, h = self._taps.read(piece, (lengths - a).clamp(0, piece.shape[1]), state, whole=whole)
            pieces.append(seen)
            ends += [] if h is None else [h]
        inputs = {i: torch.cat([seen[i] for seen in pieces], dim=1) for i in self._taps.layers}
        return inputs, torch.cat(ends, dim=1) if whole else None

    def save(self, path: Path, told: Sequence[Told], flows: Sequence[tuple[int, int]]) -> None:
        E = self._taps.config.hidden_size
        tensors = {
            "tokens": torch.cat(self._tokens),
            "kept": torch.cat(self._kept),
            "residual": torch.cat(self._residual) if self._residual else torch.zeros(0, E).half(),
            **{f"inputs.{i}": torch.cat(xs) for i, xs in self._inputs.items()},
        }
        spans = json.dumps({"told": [asdict(one) for one in told], "flows": flows})
        beside = path.with_name(path.name + ".tmp")
        save_file(tensors, beside, metadata={"spans": spans})
        beside.replace(path)


def claim(folder: Path, settings: Recording, seed: int, layers: Sequence[int]) -> None:
    """Note what a folder is to hold. Raises `TrainingError` where it holds something else."""
    asked = settings.model_dump(mode="json", exclude={"folder"})
    about = json.dumps({"layers": sorted(layers), "seed": seed, **asked})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recording.json"
    if path.exists() and path.read_text(encoding="utf-8") != about:
        raise TrainingError(f"{folder}: holds a recording made with other settings; take another folder")
    path.write_text(about, encoding="utf-8")


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
            asked = (Asked(q["start"] + size, q["end"] + size, q["answer"] + size, q["size"]) for q in one["asked"])
            told.append(Told(one["start"] + size, one["end"] + size, tuple(asked)))
        flows += [(a + size, b + size) for a, b in spans["flows"]]
        size += len(tensors["tokens"])
        rows += len(tensors["residual"])
        for name, tensor in tensors.items():
            parts.setdefault(name, []).append(tensor)
    whole = {name: torch.cat(some) for name, some in parts.items()}
    inputs = {int(n.removeprefix("inputs.")): t for n, t in whole.items() if n.startswith("inputs.")}
    kept = whole["kept"] >= 0
    begins = torch.zeros_like(kept)
    for a, b in flows:  # of what was said before an answer nothing is kept
        begins[a + 1 : b] = kept[a + 1 : b] & ~kept[a : b - 1]
    return Recorded(
        whole["tokens"],
        inputs,
        whole["residual"],
        whole["kept"],
        tuple(told),
        tuple(flows),
        begins,
        _rivals(whole["tokens"], told),
    )


def _rivals(tokens: Tensor, told: Sequence[Told]) -> tuple[tuple[int, ...], ...]:
    ends = [{tuple(tokens[q.answer - 1 : q.answer + 1].tolist()) for q in one.asked} for one in told]
    alike: dict[tuple[int, ...], list[int]] = {}
    for n, some in enumerate(ends):
        for end in some:
            alike.setdefault(end, []).append(n)
    return tuple(tuple(sorted({m for end in some for m in alike[end]} - {n})) for n, some in enumerate(ends))
