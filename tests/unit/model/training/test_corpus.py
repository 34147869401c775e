"""Corpora: read lazily, from files and folders, the held-out tenth of a folder only."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import pytest

from model.tokenizer import load_tokenizer
from model.training.corpus import BLOCK, CorpusError, held_out, open_corpus
from model.training.draws import draws
from model.training.filler import Filler, passage
from support.serving import tiny_tokenizer


def test_of_a_folder_only_the_held_out_tenth_is_read(tmp_path: Path) -> None:
    for i in range(200):
        name = f"part{i % 3}/{i}.rst"
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        text = f"This is {'held' if held_out(name) else 'trained'} number {i}. "
        if i % 2:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    corpus = open_corpus(str(tmp_path))
    assert corpus is not None
    mine = [name for name, _ in corpus.files]
    assert mine
    assert all(held_out(name) for name in mine)
    assert 5 <= len(mine) <= 45
    text = "".join(corpus.blocks(draws(0)))
    plain = [name for name in mine if name.endswith(".rst")]
    assert plain
    assert text.count("This is held") >= len(plain)
    assert "".join(corpus.blocks(draws(0))) == text  # the same draw, the same text


def test_a_file_is_read_once_in_blocks_between_words(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(60_000)]
    file = tmp_path / "text.txt"
    file.write_text(" ".join(words))
    corpus = open_corpus(str(file))
    assert corpus is not None
    blocks = list(corpus.blocks(draws(3)))
    assert len(blocks) > 3
    assert max(map(len, blocks)) <= 2 * BLOCK
    read = "".join(blocks).split()
    assert read[1:] == words[-len(read) + 1 :]  # from somewhere in the first half, to the end, nothing lost


def test_of_a_file_in_any_script_at_least_half_is_read(tmp_path: Path) -> None:
    """Where it begins is drawn in bytes, of which a character may have three."""
    file = tmp_path / "text.txt"
    text = "春眠不覚暁 " * 3_000
    file.write_text(text, encoding="utf-8")
    corpus = open_corpus(str(file))
    assert corpus is not None
    shares = [len("".join(corpus.blocks(draws(i)))) / len(text) for i in range(20)]
    assert min(shares) > 0.49
    assert max(shares) - min(shares) > 0.2


def test_filler_goes_round_and_a_passage_ends(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path / "t"), None)
    file = tmp_path / "text.txt"
    file.write_text("Round and round. ")
    corpus = open_corpus(str(file))
    assert len(list(passage(tokenizer, corpus, draws(0)))) <= 17
    assert len(list(islice(Filler("varied", tokenizer, corpus).tokens(draws(0)), 1000))) == 1000
    assert Filler("varied", tokenizer, corpus).name == "varied (text.txt)"


def test_where_there_is_no_text_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere"):
        open_corpus(str(tmp_path / "nowhere.txt"))
    with pytest.raises(CorpusError, match="held out"):
        open_corpus(str(tmp_path))
    assert open_corpus("", documentation=tmp_path) is None
    empty = tmp_path / "white.txt"
    empty.write_bytes(b"\xff")
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path / "t"), None)
    assert next(Filler("varied", tokenizer, open_corpus(str(empty))).tokens(draws(0))) is not None


def test_the_documentation_of_the_kernel_is_found_where_it_is_installed(tmp_path: Path) -> None:
    folder = tmp_path / "linux-doc-6.1" / "Documentation"
    folder.mkdir(parents=True)
    for i in range(60):
        (folder / f"{i}.rst").write_text("Kernel.")
    (folder / "translations").mkdir()
    foreign = next(f"translations/{i}.rst" for i in range(1000) if held_out(f"translations/{i}.rst"))
    (folder / foreign).write_text("Noyau.")
    corpus = open_corpus("", documentation=tmp_path)
    assert corpus is not None
    assert corpus.name == "linux-doc-6.1"
    assert foreign not in dict(corpus.files)
