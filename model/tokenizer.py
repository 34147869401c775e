"""Text to token ids and back, for byte-level BPE tokenisers: from a GGUF file, a directory or a hub name.

Invariants: `decode(ids)` is the UTF-8 reading of the bytes of the tokens that are not special, and an
`IncrementalDecoder` gives exactly that text in pieces, each of them final. `encode` adds nothing: no BOS, no prefix
space. Special tokens are the ones the vocabulary itself marks as such; other added tokens are text.

It imports neither torch nor `transformers` (seconds to import, and its reading of GGUF leaves out SmolLM's digits).
It knows nothing of sessions.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders

from model.chat import ChatTemplate
from model.gguf import GGUF
from model.gguf_bpe import CONVERSION, cached_bpe
from model.source import locate

# Tokens that end a model's turn whatever the file calls its end token, if they are special tokens of the vocabulary.
_END_TEXTS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_text|>")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: character → byte. Printable Latin-1 stands for itself, the rest from U+0100 on."""
    itself = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in itself]
    return {chr(b): b for b in itself} | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTES = _byte_alphabet()


class TokenizerError(ValueError):
    """The tokeniser cannot be read, or the text cannot be tokenised; the message names the file or the reason."""


class IncrementalDecoder:
    """Tokens in, text out, in O(1) a token; the pieces together are `Tokenizer.decode` of all the tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that this token makes final: complete characters, and U+FFFD for bytes that can be none."""
        return self._utf8.decode(self._tokenizer.piece(token_id))

    def flush(self) -> str:
        """What was held back: U+FFFD where the text ended inside a character, else nothing. Starts anew."""
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text


class Tokenizer:
    """A vocabulary, its special tokens and its chat template.

    bos_id: put before position 0 of raw text where `add_bos`; None where there is none.
    eos_ids: any of them ends a generation.
    special, special_ids: text → id of every special token; such tokens are not shown in text.
    special_pattern: matches one of them, with the white space after it that it takes along.
    chat: None for a model without a chat template.
    fingerprint: 32 hex digits over the vocabulary, the special tokens and the template.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        fingerprint: str,
        bos_id: int | None,
        eos_ids: Iterable[int],
        add_bos: bool,
        template: str | None = None,
        template_variables: Mapping[str, str] | None = None,
    ) -> None:
        """template_variables: names the template may use beside the messages, such as `bos_token`."""
        self._backend = backend
        self._lock = threading.Lock()
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in added.items() if token.special}
        self.special_ids = frozenset(self.special.values())
        swallows = {token.content: r"\s*" if token.rstrip else "" for token in added.values() if token.special}
        longest_first = sorted(swallows, key=len, reverse=True)
        self.special_pattern = re.compile("|".join(re.escape(t) + swallows[t] for t in longest_first) or "(?!)")
        self.vocab_size = max([backend.get_vocab_size(with_added_tokens=True), *(i + 1 for i in added)])
        self._pieces: list[bytes | None] = [None] * self.vocab_size
        self.bos_id = bos_id
        self.add_bos = add_bos
        self.fingerprint = fingerprint
        ends = set(eos_ids) | {self.special[text] for text in _END_TEXTS if text in self.special}
        self.chat = None if template is None else ChatTemplate(template, self, template_variables or {})
        if self.chat is not None and self.chat.end_id is not None:
            ends.add(self.chat.end_id)
        self.eos_ids = frozenset(ends)

    def encode(self, text: str, *, specials: bool) -> list[int]:
        """Token ids of a text, nothing added.

        specials: whether text that spells a special token is that token (True: for text a template wrote) or just text
        (False: for text a user wrote). Raises `TokenizerError` for text that is not Unicode (a lone surrogate).
        """
        try:
            with self._lock:  # the switch belongs to the backend, not to the call
                self._backend.encode_special_tokens = not specials
                # Unlike `encode` this lets other threads run meanwhile: a large prompt takes seconds.
                ids: list[int] = self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        except (TypeError, UnicodeEncodeError) as e:
            raise TokenizerError("the text contains a surrogate, which is no character") from e
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens; special tokens and ids outside the vocabulary are left out."""
        return b"".join(map(self.piece, ids)).decode("utf-8", "replace")

    def decoder(self) -> IncrementalDecoder:
        """A decoder for one stream."""
        return IncrementalDecoder(self)

    def is_valid(self, token_id: int) -> bool:
        """Whether the id is a token's."""
        return 0 <= token_id < self.vocab_size and self._backend.id_to_token(token_id) is not None

    def piece(self, token_id: int) -> bytes:
        """The bytes of one token; none for a special token or an id outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            return b""
        piece = self._pieces[token_id]
        if piece is None:
            piece = self._pieces[token_id] = self._spell(token_id)
        return piece

    def _spell(self, token_id: int) -> bytes:
        token = self._backend.id_to_token(token_id)
        if token is None or token_id in self.special_ids:
            return b""
        try:
            return bytes([_BYTES[c] for c in token])
        except KeyError:  # an added token, written as it is
            return token.encode()


def load_tokenizer(model: str | Path, cache_dir: Path | None) -> Tokenizer:
    """The tokeniser of a model: a directory, a .gguf file, `smollm2-135m`, or a hub name.

    cache_dir: where a converted GGUF vocabulary is kept; None converts it at each call (0.3 s for 49,152 tokens).
    Raises `TokenizerError`, `GGUFError` or `SourceError`, all of them ValueError.
    """
    where = locate(model, weights=False)
    return _from_directory(where) if where.is_dir() else _from_gguf(where, cache_dir)


def _from_gguf(path: Path, cache_dir: Path | None) -> Tokenizer:
    file = GGUF(path)
    digest = hashlib.sha256(CONVERSION.encode())
    for key in sorted(k for k in file.metadata if k.startswith("tokenizer.")):
        digest.update(key.encode() + b"\0" + file.span(key))
    fingerprint = digest.hexdigest()[:32]
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
        raise TokenizerError(f"{path}: metadata 'tokenizer.ggml.tokens': no list of tokens is there")

    def token_id(name: str) -> int | None:
        found = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(tokens):
            raise TokenizerError(f"{path}: metadata 'tokenizer.ggml.{name}_token_id': {found!r} is no token's id")
        return found

    named = {name: i for name in ("bos", "eos", "unknown", "padding") if (i := token_id(name)) is not None}
    ends = [i for name in ("eos", "eot", "eom") if (i := token_id(name)) is not None]
    template = file.metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"{path}: metadata 'tokenizer.chat_template': not a text")
    short = {"unknown": "unk", "padding": "pad"}
    return Tokenizer(
        cached_bpe(file, tokens, cache_dir and cache_dir / f"tokenizer-{fingerprint}.json"),
        fingerprint=fingerprint,
        bos_id=named.get("bos"),
        eos_ids=ends,
        add_bos=bool(file.metadata.get("tokenizer.ggml.add_bos_token", False)),
        template=template,
        template_variables={f"{short.get(name, name)}_token": tokens[i] for name, i in named.items()},
    )


def _from_directory(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        content = path.read_bytes()
        backend = Backend.from_buffer(content)
    except OSError as e:
        raise TokenizerError(f"{path}: cannot be opened: {e}") from e
    except Exception as e:  # the library raises bare Exceptions
        raise TokenizerError(f"{path}: is no tokeniser: {e}") from e
    if not isinstance(backend.decoder, decoders.ByteLevel):
        raise TokenizerError(f"{path}: only byte-level tokenisers can be read, this one has decoder {backend.decoder}")
    settings = _json(folder / "special_tokens_map.json") | _json(folder / "tokenizer_config.json")
    variables = {
        name: text
        for name, value in settings.items()
        if name.endswith("_token")
        and isinstance(text := value.get("content") if isinstance(value, dict) else value, str)
    }
    config, generation = _json(folder / "config.json"), _json(folder / "generation_config.json")
    bos_id = backend.token_to_id(variables["bos_token"]) if "bos_token" in variables else config.get("bos_token_id")
    ends: set[int] = set()
    for listed in (config.get("eos_token_id"), generation.get("eos_token_id")):
        ends.update(i for i in (listed if isinstance(listed, list) else [listed]) if isinstance(i, int))
    if (eos := backend.token_to_id(variables.get("eos_token", ""))) is not None:
        ends.add(eos)
    add_bos = settings.get("add_bos_token")
    if not isinstance(add_bos, bool):  # then the post-processor says
        add_bos = bos_id is not None and backend.encode("a").ids[:1] == [bos_id]
    template = _template(folder, settings)
    described = json.dumps([CONVERSION, bos_id, sorted(ends), add_bos, template, sorted(variables.items())])
    return Tokenizer(
        backend,
        fingerprint=hashlib.sha256(hashlib.sha256(content).digest() + described.encode()).hexdigest()[:32],
        bos_id=bos_id,
        eos_ids=ends,
        add_bos=add_bos,
        template=template,
        template_variables=variables,
    )


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    """chat_template.jinja, else what tokenizer_config.json holds: a text, or several by name."""
    path = folder / "chat_template.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as e:
        raise TokenizerError(f"{path}: cannot be read: {e}") from e
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is absent."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise TokenizerError(f"{path}: cannot be read: {e}") from e
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: is not a JSON object")
    return value
