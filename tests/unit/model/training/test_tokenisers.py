"""Tokenisers trained here: what goes in comes out, by the server's own reading of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.tokenizer import Tokenizer, load_tokenizer
from model.training.tokenisers import END, KINDS, Kind, TokeniserError, save_tokeniser, train_tokeniser

TEXTS = [
    "The café at the corner opened at nine.\nIt closed at nine, too: naïve, the owners said.\n" * 4,
    "\tИ снова здравствуйте.\r\n\r\n  two  spaces,   three\n" * 3,
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def trained(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp(kind)
    save_tokeniser(train_tokeniser(kind, iter(TEXTS), 400), folder)
    return load_tokenizer(folder, None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.sampled_from(TEXTS) | st.text(alphabet=" \n\t\r \u3000é漢😀a"))
def test_any_text_comes_back(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text, specials=False)
    assert trained.decode(ids) == text
    assert all(0 <= i < trained.vocab_size for i in ids)


def test_text_in_pieces_as_it_is_generated(trained: Tokenizer) -> None:
    decoder = trained.decoder()
    pieces = [decoder.push(i) for i in trained.encode("漢字 naïve\n", specials=False)]
    assert "".join(pieces) + decoder.flush() == "漢字 naïve\n"


def test_the_end_is_a_token_and_its_spelling_is_text(trained: Tokenizer) -> None:
    assert trained.special == {END: trained.vocab_size - 1}
    assert trained.eos_ids == {trained.vocab_size - 1}
    assert trained.encode(END, specials=True) == [trained.vocab_size - 1]
    assert trained.decode(trained.encode(END, specials=False)) == END


def test_learned_tokens_are_longer_than_bytes(kind: Kind, trained: Tokenizer) -> None:
    text = TEXTS[0]
    count = len(trained.encode(text, specials=False))
    if kind == "char":
        assert count == len(text)
    else:
        assert count < 0.8 * len(text)
    assert trained.vocab_size <= 400


def test_a_character_is_one_token_and_an_unseen_one_its_bytes() -> None:
    tokeniser = train_tokeniser("char", TEXTS, 400)
    assert len(tokeniser.encode("éЗ".lower()).ids) == 2
    assert len(tokeniser.encode("漢").ids) == 3


def test_the_most_frequent_characters_come_first() -> None:
    tokeniser = train_tokeniser("char", ["éééàà" + "ü"], 256 + 1 + 2)
    assert [len(tokeniser.encode(c).ids) for c in "éàü"] == [1, 1, 2]
    assert tokeniser.get_vocab_size() == 259


def test_training_again_gives_the_same_tokens(kind: Kind) -> None:
    one, two = (train_tokeniser(kind, TEXTS, 330).get_vocab() for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [("word", 400, "kind is 'word'; it must be one of char, bpe, unigram"), ("char", 200, "at least 257")],
)
def test_says_what_to_change(kind: Kind, size: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(TokeniserError, match=message):
        train_tokeniser(kind, TEXTS, size)
