"""Tokenisers trained from texts: characters, BPE, or SentencePiece's unigram model; all saved as tokenizer.json.

All three stand on bytes spelled as GPT-2 spells them, so that `model.tokenizer` loads what is saved here, whatever text
there is has tokens, and decoding gives it back byte for byte: white space, line ends and characters that were never
seen among it. There is no unknown token because there is nothing that could be unknown.

char      a token per character of the texts, a token per byte for any other character
bpe       byte pairs merged by frequency within words (GPT-2's division of a text into words)
unigram   pieces chosen by likelihood, pruned from many (Kudo 2018, arXiv 1804.10959)

A character is made of its bytes by merges from the left. UTF-8 tells the first byte of a character from the others, so
that no merge reaches from one character into the next, and nothing need divide a text beforehand.

It knows nothing of models, but that the id after the last piece ends a text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

Kind = Literal["char", "bpe", "unigram"]
KINDS: tuple[Kind, ...] = ("char", "bpe", "unigram")
END = "<|endoftext|>"
_BYTES = 256


class TokeniserError(ValueError):
    """A tokeniser can't be trained like this; the message says what to change."""


def train_tokeniser(kind: Kind, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokeniser of at most `vocab_size` tokens: 256 bytes, what was learned of the texts, and `END` as the last.

    Fewer where the texts do not give as many. For "char" the most frequent characters, where they are too many.
    Raises `TokeniserError` for an unknown kind, or a vocabulary that cannot hold the bytes.
    """
    if kind not in KINDS:
        raise TokeniserError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if vocab_size < _BYTES + 1:
        raise TokeniserError(f"vocab_size is {vocab_size}; it must be at least {_BYTES + 1}: every byte, and the end")
    pieces = vocab_size - 1
    if kind == "char":
        tokeniser = Tokenizer(_characters(texts, pieces))
        tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    else:
        tokeniser = Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
        tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokeniser.train_from_iterator(texts, _trainer(kind, pieces))
        if kind == "unigram":  # which leaves its pieces in an order of chance
            tokeniser.model = models.Unigram(sorted(map(tuple, json.loads(tokeniser.to_str())["model"]["vocab"])))
    tokeniser.decoder = decoders.ByteLevel()
    tokeniser.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokeniser


def save_tokeniser(tokeniser: Tokenizer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json in `folder`, as `model.tokenizer.load_tokenizer` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokeniser.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _trainer(kind: Kind, pieces: int) -> trainers.BpeTrainer | trainers.UnigramTrainer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "bpe":
        return trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    return trainers.UnigramTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)


def _characters(texts: Iterable[str], pieces: int) -> models.BPE:
    """Bytes, and the merges that make the most frequent characters of them, from the left."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    vocabulary = {spelled: i for i, spelled in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for character, _ in sorted(counts.items(), key=lambda found: (-found[1], found[0])):
        steps = [step for step in _steps(character) if step[0] + step[1] not in vocabulary]
        if len(vocabulary) + len(steps) > pieces:
            break
        for left, right in steps:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
    return models.BPE(vocabulary, merges)


def _steps(character: str) -> Iterator[tuple[str, str]]:
    """The merges that make a character of its bytes: none for one of a single byte."""
    spelled = [piece for piece, _ in pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(character)]
    for end in range(1, len(spelled[0]) if spelled else 0):
        yield spelled[0][:end], spelled[0][end]
