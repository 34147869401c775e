"""The tokeniser against `transformers` on the same file, and its decoder against the bytes' own reading."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, pre_tokenizers

from model.gguf import GGUFError
from model.source import SourceError
from model.tokenizer import IncrementalDecoder, Tokenizer, TokenizerError, load_tokenizer

SCRIPTS = [
    "The quick brown fox doesn't jump; it's we'll they'd I'M YOU'RE.",
    "Größe, façade, naïve, Ærøskøbing, Łódź, İstanbul, ǅ ǆ",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "我能吞下玻璃而不傷身體。ガラスを食べられます。나는 유리를 먹을 수 있어요.",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني. אני יכול לאכול זכוכית",
    "मैं काँच खा सकता हूँ। ฉันกินกระจกได้ ကျွန်တော် ქართული ᠮᠣᠩᠭᠣᠯ",
    "🦜👩‍👩‍👧‍👦🏳️‍🌈👍🏽 e\u0301 \u202eleft\u202c \ufeff \u00a0\u2003x",
    "def f(x: int) -> str:\n\treturn f'{x!r:>{10}}'  # comment\r\n\n\n    if a<=b&&c||!d: a[::-1]\n",
    "1 22 333 4444 55555 3.14159 1e-05 0xDEADBEEF 2024-06-18T12:34:56Z a1b2c3 007",
    " leading,  two   three    four\t\ttabs\n\n\nnewlines \n mixed \t\n ending   ",
    "x² + ½ = Ⅻ ٣٤٥ ३४५ ①②③",
    "<|im_start|>user <|im_end|> <|endoftext|> <repo_name> <| im_end |>",
    "\x00\x01\x7f\x80\x9f\xad",
]
# SmolLM2's vocabulary has no token for these bytes (of six control characters, and of planes 4 to 11 where no character
# is assigned): its published tokeniser and llama.cpp drop them, so text with them does not come back.
LOST = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}
CHARACTERS = st.characters(exclude_categories=["Cs"]).filter(lambda c: not LOST & set(c.encode()))
TEXTS = st.text(max_size=60) | st.text(alphabet=" 0123456789²½\n\tab'sll.²é語🦜", max_size=60)


@pytest.mark.weights
@pytest.mark.parametrize("text", SCRIPTS)
def test_ids_equal_those_of_transformers(smol: Tokenizer, hf_smol_digits: Any, text: str) -> None:
    ids = smol.encode(text, specials=True)
    assert ids == hf_smol_digits.encode(text, add_special_tokens=False)
    if "<|" not in text:
        assert smol.decode(ids) == text


@pytest.mark.weights
@settings(max_examples=150)
@given(text=TEXTS)
def test_ids_equal_those_of_transformers_on_any_text(smol: Tokenizer, hf_smol_digits: Any, text: str) -> None:
    ids = smol.encode(text, specials=True)
    assert ids == hf_smol_digits.encode(text, add_special_tokens=False)


@pytest.mark.weights
def test_where_transformers_own_conversion_differs_the_published_tokeniser_is_followed(
    smol: Tokenizer, hf_smol: Any
) -> None:
    r"""`transformers` reads the GGUF's pre-tokeniser `smollm` as plain GPT-2.

    llama.cpp's definition splits at `\p{N}` before GPT-2's expression runs on each piece, as the `Digits` step of the
    published tokenizer.json does. Without it GPT-2's expression sees a run of white space end before a digit, and
    leaves the last space to the digit: "a" "Ġ" "Ġ" "1" in place of "a" "ĠĠ" "1". Elsewhere the two agree.
    """
    text = "a  1"
    ours, theirs = smol.encode(text, specials=False), hf_smol.encode(text, add_special_tokens=False)
    assert [smol.piece(i) for i in ours] == [b"a", b"  ", b"1"]
    assert [smol.piece(i) for i in theirs] == [b"a", b" ", b" ", b"1"]
    for text in SCRIPTS:
        if not any(c.isnumeric() for c in text):
            assert smol.encode(text, specials=True) == hf_smol.encode(text, add_special_tokens=False)


@pytest.mark.weights
def test_special_tokens_are_tokens_only_where_asked(smol: Tokenizer) -> None:
    text = "a<|im_end|>b"
    assert 2 in smol.encode(text, specials=True)
    plain = smol.encode(text, specials=False)
    assert not smol.special_ids & set(plain)
    assert smol.decode(plain) == text
    assert smol.decode(smol.encode(text, specials=True)) == "ab"


@pytest.mark.weights
def test_what_the_file_says_of_its_tokens(smol: Tokenizer) -> None:
    assert smol.vocab_size == 49152
    assert smol.bos_id == 1
    assert smol.eos_ids == {0, 2}
    assert not smol.add_bos
    assert smol.chat is not None
    assert smol.is_valid(0)
    assert smol.is_valid(49151)
    assert not smol.is_valid(49152)
    assert not smol.is_valid(-1)


@pytest.mark.weights
@given(ids=st.lists(st.integers(0, 49151), max_size=40))
@settings(max_examples=300)
def test_pieces_of_any_tokens_add_up_to_the_whole(smol: Tokenizer, hf_smol_digits: Any, ids: list[int]) -> None:
    decoder = smol.decoder()
    text = "".join(decoder.push(i) for i in ids) + decoder.flush()
    assert text == smol.decode(ids)
    assert text == hf_smol_digits.backend_tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.weights
@given(text=st.text(alphabet=CHARACTERS, max_size=40))
@settings(max_examples=150)
def test_no_character_is_shown_before_it_is_whole(smol: Tokenizer, text: str) -> None:
    decoder = smol.decoder()
    shown = ""
    for i in smol.encode(text, specials=False):
        shown += decoder.push(i)
        assert text.startswith(shown)
    assert shown == text
    assert decoder.flush() == ""


def _byte_ids(tokenizer: Tokenizer) -> dict[int, int]:
    return {tokenizer.piece(i)[0]: i for i in range(256)}


def test_bytes_that_can_be_no_character_are_replaced_as_soon_as_that_is_known(small: Tokenizer) -> None:
    of_byte = _byte_ids(small)
    decoder = small.decoder()
    pieces = [decoder.push(of_byte[b]) for b in b"\xf0\x9f\xa6x\xff\xe8\xaa\x9e\xc3"]
    assert pieces == ["", "", "", "�x", "�", "", "", "語", ""]
    assert decoder.flush() == "�"
    assert decoder.flush() == ""
    assert decoder.push(of_byte[0x41]) == "A"


@given(data=st.binary(max_size=12))
def test_any_bytes_are_read_alike_in_pieces_and_whole(small: Tokenizer, data: bytes) -> None:
    of_byte = _byte_ids(small)
    decoder = small.decoder()
    ids = [of_byte[b] for b in data]
    assert "".join(map(decoder.push, ids)) + decoder.flush() == small.decode(ids) == data.decode("utf-8", "replace")


def test_a_special_token_inside_a_character_is_not_seen(small: Tokenizer) -> None:
    of_byte = _byte_ids(small)
    first, second = "é".encode()
    ids = [of_byte[first], small.special["<|im_end|>"], of_byte[second], 10**9]
    decoder = small.decoder()
    assert [decoder.push(i) for i in ids] == ["", "", "é", ""]
    assert small.decode(ids) == "é"


def test_a_surrogate_is_refused_by_name(small: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="surrogate"):
        small.encode("a\ud800b", specials=False)


def test_decoding_costs_the_same_at_any_length(small: Tokenizer) -> None:
    """A push touches the new token only: what the decoder holds on to does not grow."""
    decoder = small.decoder()
    of_byte = _byte_ids(small)
    for b in "語".encode() * 1000:
        decoder.push(of_byte[b])
    assert isinstance(decoder, IncrementalDecoder)
    assert len(decoder._utf8.getstate()[0]) == 0


@pytest.fixture(scope="module")
def small(make_tokenizer: Any) -> Tokenizer:
    made: Tokenizer = make_tokenizer(None, "<|im_start|>", "<|im_end|>")
    return made


# --- files ---


@pytest.mark.weights
def test_the_conversion_is_kept_and_read_back_alike(smol: Tokenizer, smol_path: Path, tmp_path: Path) -> None:
    cold = load_tokenizer(smol_path, tmp_path)
    kept = list(tmp_path.iterdir())
    assert [p.suffix for p in kept] == [".json"]
    written = kept[0].stat().st_mtime_ns
    warm = load_tokenizer("smollm2-135m", tmp_path)
    assert kept[0].stat().st_mtime_ns == written
    assert cold.fingerprint == warm.fingerprint == smol.fingerprint
    for text in SCRIPTS:
        assert cold.encode(text, specials=True) == warm.encode(text, specials=True)


def _gguf_vocabulary(path: Path, **changes: Any) -> Path:
    """A GGUF file with a tokeniser of the 256 bytes and nothing else; `changes` replace keys, None leaves one out."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": [*letters, "ĠĠ", "<|im_end|>", "<think>"],
        "token_type": [1] * 257 + [3, 4],
        "merges": ["Ġ Ġ"],
        "eos_token_id": 257,
    } | changes
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        if isinstance(value, str):
            writer.add_string(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, bool):
            writer.add_bool(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"tokenizer.ggml.{key}", value)
        elif value is not None:
            writer.add_array(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_small_gguf_vocabulary(tmp_path: Path) -> None:
    path = _gguf_vocabulary(tmp_path / "small.gguf")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        tokenizer = load_tokenizer(path, cache)
        assert tokenizer.eos_ids == {257}
        assert tokenizer.chat is None
        assert [tokenizer.piece(i) for i in tokenizer.encode("  12", specials=False)] == [b"  ", b"1", b"2"]
        assert tokenizer.encode("<|im_end|><think>", specials=True) == [257, 258]
        # a user-defined token is text with an id of its own, and is shown
        assert tokenizer.encode("<think>", specials=False) == [258]
        assert tokenizer.decode([257, 258]) == "<think>"


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    fingerprints = {
        load_tokenizer(_gguf_vocabulary(tmp_path / f"{i}.gguf", **changes), None).fingerprint
        for i, changes in enumerate([{}, {"eos_token_id": 0}, {"pre": "gpt-2"}, {"token_type": [1] * 257 + [3, 3]}])
    }
    assert len(fingerprints) == 4
    again = load_tokenizer(_gguf_vocabulary(tmp_path / "again.gguf"), None).fingerprint
    assert again in fingerprints


@pytest.mark.parametrize("content", [b"", b'{"version": "1.0", "trunc', b"{}"])
def test_a_broken_cache_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = _gguf_vocabulary(tmp_path / "small.gguf")
    load_tokenizer(path, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(content)
    assert load_tokenizer(path, tmp_path / "cache").encode("a", specials=False)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (blocked := tmp_path / "file").write_text("not a directory")
    path = _gguf_vocabulary(tmp_path / "small.gguf")
    assert load_tokenizer(path, blocked / "cache").encode("a", specials=False)


def test_writers_that_start_together_leave_one_whole_file(tmp_path: Path) -> None:
    path, cache = _gguf_vocabulary(tmp_path / "small.gguf"), tmp_path / "cache"
    barrier = threading.Barrier(6)
    failed: list[Exception] = []

    def load() -> None:
        barrier.wait()
        try:
            assert load_tokenizer(path, cache).encode("  ", specials=False) == [256]
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == []
    assert len(os.listdir(cache)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "llama"}, "'tokenizer.ggml.model': 'llama'"),
        ({"pre": "qwen2"}, "'tokenizer.ggml.pre': 'qwen2' is not supported"),
        ({"pre": 3}, "'tokenizer.ggml.pre': 3 is not supported"),
        ({"merges": None}, "'tokenizer.ggml.merges'"),
        ({"merges": ["Ġ"]}, "'tokenizer.ggml.merges'"),
        ({"merges": ["zz qq"]}, "'tokenizer.ggml.merges'"),
        ({"tokens": None}, "'tokenizer.ggml.tokens'"),
        ({"tokens": [1, 2]}, "'tokenizer.ggml.tokens'"),
        ({"tokens": ["a", "a"], "token_type": [1, 1], "merges": ["a a"], "eos_token_id": 0}, "twice"),
        ({"token_type": [1]}, "'tokenizer.ggml.token_type'"),
        ({"eos_token_id": 4000}, "'tokenizer.ggml.eos_token_id': 4000"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = _gguf_vocabulary(tmp_path / "bad.gguf", **changes)
    with pytest.raises((TokenizerError, GGUFError)) as raised:
        load_tokenizer(path, None)
    assert str(path) in str(raised.value)
    assert reason in str(raised.value)


@pytest.fixture
def folder(tmp_path: Path, make_backend: Any) -> Path:
    """A directory as `save_pretrained` leaves it."""
    backend = make_backend("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    backend.save(str(tmp_path / "tokenizer.json"))
    settings = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": "old"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 9}))
    return tmp_path


def test_a_directory(folder: Path, chatml: str) -> None:
    (folder / "chat_template.jinja").write_text(chatml)
    tokenizer = load_tokenizer(str(folder), None)
    assert tokenizer.bos_id == tokenizer.special["<|im_start|>"]
    assert tokenizer.eos_ids == {7, 8, 9, tokenizer.special["<|im_end|>"], tokenizer.special["<|endoftext|>"]}
    assert tokenizer.chat is not None
    assert tokenizer.chat.stable
    assert tokenizer.decode(tokenizer.encode("hello", specials=False)) == "hello"
    (folder / "chat_template.jinja").write_text(chatml + " ")
    assert load_tokenizer(folder, None).fingerprint != tokenizer.fingerprint


def test_the_template_in_the_configuration(folder: Path, chatml: str) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for template in (chatml, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": chatml}]):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
        chat = load_tokenizer(folder, None).chat
        assert chat is not None
        assert chat.closing == "<|im_end|>\n"


def test_a_directory_with_nothing_but_a_tokeniser(tmp_path: Path, make_backend: Any) -> None:
    make_backend().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, None)
    assert tokenizer.bos_id is None
    assert tokenizer.eos_ids == frozenset()
    assert not tokenizer.add_bos
    assert tokenizer.chat is None


def test_bos_is_wanted_where_the_post_processor_or_the_configuration_says_so(folder: Path, make_backend: Any) -> None:
    from tokenizers import processors

    assert not load_tokenizer(folder, None).add_bos
    backend = make_backend("<|im_start|>", "<|im_end|>")
    bos = ("<|im_start|>", backend.token_to_id("<|im_start|>"))
    backend.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[bos])
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder, None)
    assert tokenizer.add_bos
    assert tokenizer.bos_id not in tokenizer.encode("a", specials=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": False}))
    assert not load_tokenizer(folder, None).add_bos


def test_a_directory_that_is_no_tokeniser_is_named(folder: Path, make_backend: Any) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: cannot be read"):
        load_tokenizer(folder, None)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: is not a JSON object"):
        load_tokenizer(folder, None)
    backend = make_backend()
    backend.decoder = decoders.WordPiece()
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: only byte-level"):
        load_tokenizer(folder, None)
    (folder / "tokenizer.json").write_bytes(b'{"model": 3')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: is no tokeniser"):
        load_tokenizer(folder, None)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot be opened"):
        load_tokenizer(folder, None)


def test_a_name_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or directory"):
        load_tokenizer(tmp_path / "missing.gguf", None)
