"""The byte-level BPE vocabulary of a GGUF file as a `tokenizers` tokeniser, converted once and kept.

Writers replace the kept file atomically, so processes that start together cannot see half of it. It knows nothing of
chat templates and of what the special tokens mean.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from model.gguf import GGUF, GGUFError

# Part of a converted file's name and of its fingerprint: raise it when the conversion gives other ids.
CONVERSION = "1"

# llama.cpp's names of pre-tokenisers → whether each digit stands alone before GPT-2's splitting (\p{N} by itself).
_SPLITS_DIGITS = {"smollm": True, "starcoder": True, "refact": True, "command-r": True, "gpt-2": False}

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types


def cached_bpe(file: GGUF, tokens: list[str], cache: Path | None) -> Tokenizer:
    """The converted vocabulary, from the file `cache` where a whole one is there; else converted, and kept there."""
    if cache is None:
        return convert_bpe(file, tokens)
    # A file that cannot be read is half a file after a crash: made anew.
    with suppress(Exception):
        return Tokenizer.from_file(str(cache))
    backend = convert_bpe(file, tokens)
    # Without a cache the server is slower to start, no more than that.
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(backend.to_str())
            Path(name).replace(cache)
        finally:
            Path(name).unlink(missing_ok=True)
    return backend


def convert_bpe(file: GGUF, tokens: list[str]) -> Tokenizer:
    """A GGUF's byte-level BPE as a `tokenizers` tokeniser, as llama.cpp defines its pre-tokeniser.

    tokens: the file's. Raises `GGUFError` naming the key that is missing, broken or not supported.
    """
    get, path = file.metadata.get, file.path
    kind, split = get("tokenizer.ggml.model"), get("tokenizer.ggml.pre")
    if kind != "gpt2":
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.model': {kind!r}; 'gpt2' (byte-level BPE) can be read")
    if not isinstance(split, str) or split not in _SPLITS_DIGITS:
        known = ", ".join(_SPLITS_DIGITS)
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.pre': {split!r} is not supported (known: {known})")
    merges = get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or not all(isinstance(m, str) and m.count(" ") == 1 for m in merges):
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.merges': no list of pairs is there")
    types = get("tokenizer.ggml.token_type")
    if types is None or isinstance(types, int | float | str) or len(types) != len(tokens):
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.token_type': not one type for each of the tokens")
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.tokens': a token is there twice")
    try:
        backend = Tokenizer(models.BPE(vocab, [(a, b) for a, _, b in (m.partition(" ") for m in merges)]))
    except Exception as e:  # the library raises bare Exceptions
        raise GGUFError(f"{path}: metadata 'tokenizer.ggml.merges': {e}") from e
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2]) if _SPLITS_DIGITS[split] else gpt2
    backend.decoder = decoders.ByteLevel()
    kinds = [int(t) for t in types]
    backend.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL]
    )
    backend.add_tokens(
        [AddedToken(t, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED]
    )
    return backend
