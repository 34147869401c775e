"""Making a recording (`recording`): excerpts drawn, each read by the base model by itself, as it is served.

Files are written one by one, each a function of the settings and its number, so that making them can be stopped and
gone on with. The facts of those that are never trained on are of relations that the others don't tell (`HELD`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from model.kernels import choose_ops
from model.senri import Senri
from model.senri_config import Config
from model.state import State, as_rows
from model.tokenizer import Tokenizer, load_tokenizer
from model.training.draws import draws
from model.training.lessons import RELATIONS, another_value, draw_lessons
from model.training.trainer import recording, texts
from model.training.trainer.recording import Asked, Told
from model.training.trainer.settings import Recorded as Settings
from model.training.trainer.settings import Recording, TrainingError
from model.training.trainer.stories import CORRECTED, Question, Stories
from model.training.trainer.talk import REPLIES, Talk
from model.training.trainer.taps import Taps
from model.weights import Tensors

HELD = frozenset(range(0, len(RELATIONS), 9))  # relations that only the files held out tell
TAUGHT = frozenset(range(len(RELATIONS))) - HELD
FLOW = 640  # tokens of an excerpt of filler
WHOLE = 6  # of so many excerpts of filler, one is read to the end, so that its text can be judged
CHUNK, ROWS = 128, 16  # tokens of a row, and rows, that are read at a time
OVERLAP = 4  # tokens before a question that go with it: its convolutions look back


def record(settings: Settings, config: Config, base: Tensors, folder: Path) -> None:
    """Make the recording that a run asks for, where it is not there yet. Raises `TrainingError`, `TokenizerError`."""
    r = settings.recording
    tokenizer = load_tokenizer(settings.base, None)
    text = [texts.encode(tokenizer, texts.characters(r.corpus, r.characters), r.characters)]
    text += [_book(tokenizer, Path(name).expanduser(), r.characters) for name in r.books]
    ops = choose_ops("auto")
    windows = (settings.window, *r.windows)
    taps = [Taps(replace(config, sliding_window_size=w), base, ops, settings.memory.layers) for w in windows]
    talk = Talk(Senri(replace(config, memory_layer_indices=()), base, ops), tokenizer)
    Recorder(r, settings.seed, taps, talk, tokenizer, np.concatenate(text)).make(folder)


def _book(tokenizer: Tokenizer, path: Path, characters: int) -> NDArray[np.int32]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:characters]
    except OSError as e:
        raise TrainingError(f"recording.books: {path}: cannot be read: {e.strerror}") from e
    return texts.encode(tokenizer, iter([text]), len(text))


class Recorder:
    """Makes the files of a recording in a folder."""

    def __init__(
        self,
        settings: Recording,
        seed: int,
        taps: Sequence[Taps],
        talk: Talk,
        tokenizer: Tokenizer,
        text: NDArray[np.int32],
    ) -> None:
        """taps: of the run's own window, and of those that the files to be trained on are read with instead."""
        self._settings, self._seed, self._taps, self._talk = settings, seed, taps, talk
        self._tokenizer, self._text = tokenizer, text
        self._stories = Stories(tokenizer, text)

    def make(self, folder: Path) -> None:
        """Make the files that are not there yet. Raises `TrainingError` where others were begun."""
        recording.claim(folder, self._settings, self._seed, self._taps[0].layers)
        names = recording.files(folder, self._settings.files)
        with tqdm(total=len(names), unit="file", desc="recording", initial=sum(f.exists() for f in names)) as bar:
            for number, file in enumerate(names):
                if not file.exists():
                    self._write(file, number)
                    bar.update()

    def _write(self, file: Path, number: int) -> None:
        s, rng = self._settings, draws(self._seed, "recording", number)
        judged, others = number in recording.held_out(s.files), self._taps[1:]
        relations = HELD if judged else TAUGHT
        told, asked = [], []
        for at in range(s.stories):
            excerpt, questions = self._story(rng, relations)
            told.append(excerpt)
            asked += [(at, *question) for question in questions]
        flows = [self._flow(rng) for _ in range(-(-s.filler // FLOW))]
        talked = self._talk.draw(rng, s.replies)
        sheet = _Sheet(others[number % len(others)] if others and not judged else self._taps[0])
        starts = sheet.read(told, [()] * len(told))
        rows = [(*before, *one.tokens) for _, before, one in asked]
        answers = [len(one.lead) + len(one.value) for _, _, one in asked]
        begun = sheet.read(rows, [range(len(row) - n - 1, len(row) - 1) for row, n in zip(rows, answers, strict=True)])
        whole = [range(FLOW) if i % WHOLE == 0 else () for i in range(len(flows))]
        flown = sheet.read(flows, whole)
        replied = sheet.read([one.tokens for one in talked], [range(one.asked - 1, len(one.tokens)) for one in talked])
        questions_: list[list[Asked]] = [[] for _ in told]
        for (at, before, one), row, start in zip(asked, rows, begun, strict=True):
            first, end, size = start + max(0, len(before) - OVERLAP), start + len(row), len(one.value)
            questions_[at].append(Asked(first, end, end - size - 1, size, len(one.lead)))
        sheet.save(
            file,
            [Told(a, a + len(row), tuple(q)) for a, row, q in zip(starts, told, questions_, strict=True)],
            [(a, a + FLOW) for a in flown] + [(a, a + len(one.tokens)) for a, one in zip(replied, talked, strict=True)],
        )

    def _story(
        self, rng: random.Random, relations: frozenset[int]
    ) -> tuple[list[int], list[tuple[list[int], Question]]]:
        """An excerpt with facts; and the questions, each with some filler before it."""
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
                question = stories.ask(rng, newest, chat)
                asked.append((self._filler(rng, rng.randint(8, 24)), question))
        return row, asked

    def _flow(self, rng: random.Random) -> list[int]:
        """Filler as plain text, or as what the user says in a chat."""
        frame = self._stories.form(rng)
        if frame is None:
            return self._filler(rng, FLOW)
        row = self._filler(rng, 8)
        while len(row) < FLOW:
            said = self._filler(rng, rng.randint(12, 170))
            row += frame.turn(said, self._tokenizer.encode(rng.choice(REPLIES), specials=False))
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
