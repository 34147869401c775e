"""What stands between a fact and the question: tokens without end, made as they are taken.

Invariants: the same seed gives the same tokens; no more than a block of text is ever held. It knows nothing of needles.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from model.tokenizer import Tokenizer
from model.training.corpus import Corpus, CorpusError
from model.training.held_out import REPEATED, sentences

Kind = Literal["repeated", "varied"]
TOGETHER = 64  # sentences tokenised at a time


@dataclass(frozen=True, slots=True)
class Filler:
    """One kind of filler. corpus: what varied filler is read from; None makes sentences."""

    kind: Kind
    tokenizer: Tokenizer
    corpus: Corpus | None

    @property
    def name(self) -> str:
        """For reports: the kind and its source."""
        if self.kind == "repeated":
            return "repeated"
        return f"varied ({self.corpus.name})" if self.corpus else "varied (made)"

    def tokens(self, rng: random.Random) -> Iterator[int]:
        """Token ids without end. Raises `CorpusError` where a whole corpus has none."""
        while True:
            some = False
            for text in self._texts(rng):
                for token in self.tokenizer.encode(text, specials=False):
                    some = True
                    yield token
            if not some:
                raise CorpusError(f"{self.name}: there is no text in it")

    def _texts(self, rng: random.Random) -> Iterator[str]:
        if self.kind == "repeated":
            yield REPEATED * TOGETHER
        elif self.corpus is None:
            yield "".join(islice(sentences(rng), TOGETHER))
        else:
            yield from self.corpus.blocks(rng)


def passage(tokenizer: Tokenizer, corpus: Corpus | None, rng: random.Random) -> Iterator[int]:
    """Text that is read once, for perplexity: a corpus from end to end, or sentences without end."""
    if corpus is None:
        yield from Filler("varied", tokenizer, None).tokens(rng)
        return
    for text in corpus.blocks(rng):
        yield from tokenizer.encode(text, specials=False)
