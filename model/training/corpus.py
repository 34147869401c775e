"""Plain text to read past, from files: lazily, in blocks, whatever its length.

A corpus is one file, or a folder of .txt and .rst files (gzipped ones too). Of a folder the evaluation reads only the
files that are held out, one in ten by a hash of the name, and training only the others (`held_out`); one file given by
name is read whole by either, and its user answers for its not being used for both.

It knows nothing of tokens.
"""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["held out", "training"]
MADE = "made"  # instead of a path: no corpus, but sentences made by `held_out`
BLOCK = 1 << 16  # characters read at a time
LINUX_DOC = "linux-doc-*/Documentation"  # where Debian's packages of the kernel's documentation have it
_SUFFIXES = (".txt", ".rst", ".txt.gz", ".rst.gz")


class CorpusError(ValueError):
    """There is no text to be read at the path; the message names it."""


def held_out(name: str) -> bool:
    """Whether a file of a folder, by its name relative to it, is the evaluation's: one in ten."""
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files in the order they are read, each with its name. name: for reports."""

    name: str
    files: tuple[tuple[str, Path], ...]

    def blocks(self, rng: random.Random) -> Iterator[str]:
        """All of the text once, in blocks that end between words, beginning with a file (of one: a place) drawn."""
        first = rng.randrange(len(self.files))
        skip = 0
        if len(self.files) == 1:
            skip = rng.randrange(max(1, self.files[0][1].stat().st_size // 2))
        for at in range(len(self.files)):
            yield from _blocks(self.files[(first + at) % len(self.files)][1], skip)


def open_corpus(name: str, documentation: Path = Path("/usr/share/doc"), *, part: Part = "held out") -> Corpus | None:
    """The corpus at a path; for "", Debian's linux-doc under `documentation` where it is installed, else None; for
    `MADE`, None. part: of a folder, what is read of it. Raises `CorpusError` for a path where there is no text.
    """
    if name == MADE:
        return None
    if not name:
        found = sorted(documentation.glob(LINUX_DOC))
        return _folder(found[-1], found[-1].parent.name, part) if found else None
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path, path.name, part)
    if not path.is_file() or path.stat().st_size == 0:
        raise CorpusError(f"{path}: no file with text in it")
    return Corpus(path.name, ((path.name, path),))


def _folder(folder: Path, name: str, part: Part) -> Corpus:
    """A part of a folder's files, in the order of their names' hashes so that neighbours differ in subject."""
    # Translations are other languages, which the default model was not made for.
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name.endswith(_SUFFIXES) and p.is_file()]
    mine = [n for n in names if held_out(n) == (part == "held out") and not n.startswith("translations/")]
    if not mine:
        raise CorpusError(f"{folder}: none of its {len(names)} text files is of the part that is {part}")
    mine.sort(key=lambda n: hashlib.sha256(n.encode()).digest())
    return Corpus(name, tuple((n, folder / n) for n in mine))


def _blocks(path: Path, skip: int) -> Iterator[str]:
    """skip: bytes of the file to begin behind, a character more at most."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace") as file:
            # No character has more than 4 bytes, so that what is read to be passed over is never too much.
            while skip > 0 and (passed := file.read(max(1, min(skip // 4, BLOCK)))):
                skip -= len(passed.encode())
            rest = ""
            while block := file.read(BLOCK):
                text, _, rest_ = (rest + block).rpartition(" ")
                if text:
                    yield text
                rest = " " + rest_ if text else rest_
            if rest:
                yield rest
    except OSError as e:
        raise CorpusError(f"{path}: cannot be read: {e}") from e
