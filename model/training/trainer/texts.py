"""Texts as tokens: read once, kept as one array of int32, addressed by place.

Of a folder only the files that the evaluation does not hold out (`model.training.corpus`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from model.tokenizer import Tokenizer
from model.training.corpus import open_corpus
from model.training.draws import draws
from model.training.trainer.settings import TrainingError


def characters(name: str, limit: int) -> Iterator[str]:
    """The training part of a corpus in blocks, `limit` characters at most. Raises `TrainingError`."""
    corpus = open_corpus(name, part="training")
    if corpus is None:
        raise TrainingError("no corpus: name a file or a folder of text, or install Debian's linux-doc-6.1")
    left = limit
    for block in corpus.blocks(draws("training text")):
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def encode(tokenizer: Tokenizer, blocks: Iterator[str], total: int) -> NDArray[np.int32]:
    """All of it as token ids (N,)."""
    arrays = []
    with tqdm(total=total, unit="char", unit_scale=True, desc="reading text", leave=False) as bar:
        while some := "".join(islice(blocks, 16)):
            arrays.append(np.array(tokenizer.encode(some, specials=False), dtype=np.int32))
            bar.update(len(some))
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)


def rows(text: NDArray[np.int32], starts: list[int], length: int) -> Tensor:
    """(B, length) int64: pieces of a text that begin at `starts`; its end is followed by its beginning."""
    places = (np.array(starts)[:, None] + np.arange(length)) % len(text)
    return torch.from_numpy(text[places].astype(np.int64))
