"""What a memory is taught with: none of it is the evaluation's, and stories are told as they say."""

from __future__ import annotations

import random

import numpy as np
import pytest

from model.tokenizer import Tokenizer, load_tokenizer
from model.training import lessons, relations, relations_made
from model.training.held_out import shared_with
from model.training.lessons import RELATIONS, another_value, draw_lessons
from model.training.relations import WRITTEN, Relation
from model.training.relations_made import MADE
from model.training.relations_told import TOLD
from model.training.told import codes, more_words, other_words, words
from model.training.told.reversed import REVERSED
from model.training.trainer.settings import TrainingError
from model.training.trainer.stories import FIRST, Stories
from support.serving import CHATML, tiny_tokenizer

WORDS = [
    word
    for module in (lessons, relations, relations_made, codes, words, more_words, other_words)
    for name in dir(module)
    if name.isupper() and isinstance(getattr(module, name), tuple)
    for word in getattr(module, name)
    if isinstance(word, str)
]
TEXTS = [text for r in RELATIONS for text in (*r.facts, *r.questions, *r.leads)]


def test_nothing_is_shared_with_the_evaluation() -> None:
    assert len(WORDS) > 500
    assert shared_with(WORDS, TEXTS) == []
    assert shared_with(["Torvald"], []) == ["Torvald"]  # it would have been seen


def test_wordings_have_their_blanks() -> None:
    facts = {fact for r in RELATIONS for fact in r.facts}
    assert [text for text in TEXTS if ("{v}" in text) != (text in facts)] == []


def test_told_relations_are_different() -> None:
    assert len(TOLD) > 150
    asked = [(r.subject, question) for r in TOLD for question in r.questions]
    assert len(set(asked)) == len(asked)
    facts = [(r.subject, fact) for r in TOLD for fact in r.facts]
    assert len(set(facts)) == len(facts)
    assert not {(r.subject, fact) for r in (*WRITTEN, *MADE) for fact in r.facts} & set(facts)


@pytest.mark.parametrize("told", TOLD, ids=lambda r: r.facts[0])
def test_a_told_relation_leads_to_its_value(told: Relation) -> None:
    """A fact says of whom it is and what it is before the value, and reads with any subject."""
    assert 3 <= len(set(told.facts)) <= 5
    assert 2 <= len(set(told.questions)) <= 4
    assert 2 <= len(set(told.leads)) <= 3
    assert isinstance(told.values, str) or len(set(told.values)) == len(told.values) >= 7
    named = told.subject != "self"
    for fact in told.facts:
        assert fact.count("{v}") == 1
        assert fact.count("{s}") == named
        assert fact.find("{s}") < fact.index("{v}") or told in REVERSED
        assert fact.endswith((".", "!"))
    for text in (*told.questions, *told.leads):
        assert "{v}" not in text
        assert text.count("{s}") <= named
        assert text.format(s="the tall librarian")
    assert all(question.count("{s}") == named and question.endswith("?") for question in told.questions)


def test_every_list_of_relations_is_drawn_from() -> None:
    rng = random.Random(5)
    drawn = [one for _ in range(200) for one in draw_lessons(rng, 3)]
    made, told = len(WRITTEN), len(WRITTEN) + len(MADE)
    assert 70 < sum(one.relation < made for one in drawn) < 110
    assert 360 < sum(one.relation >= told for one in drawn) < 420


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Bytes, with a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder, CHATML)
    return load_tokenizer(folder, None)


def test_facts_of_a_draw_do_not_contradict_each_other() -> None:
    drawn = draw_lessons(random.Random(3), 60)
    assert len({(one.relation, one.subject) for one in drawn}) == 60
    for one in drawn:
        assert one.value in one.fact
        assert one.value not in one.lead.split()
        other = another_value(random.Random(1), one)
        assert (other.subject, other.relation) == (one.subject, one.relation)
        assert other.value != one.value


@pytest.mark.parametrize("seed", range(12))
def test_a_story_asks_beyond_the_window(tokenizer: Tokenizer, seed: int) -> None:
    """Answers are where they are said to be, told before, and a window or more after the last filler began."""
    text = np.array(tokenizer.encode("the pier and the tide " * 400, specials=False), dtype=np.int32)
    story = Stories(tokenizer, text).draw(random.Random(seed), 1500, 3, 64)
    assert len(story.tokens) == 1500
    assert sum(story.sizes) == len(story.answers)
    assert set(story.filler).isdisjoint(story.answers)
    assert list(range(FIRST)) == list(story.filler[:FIRST])
    at = 0
    for size in story.sizes:
        places = story.answers[at : at + size]
        at += size
        *answer, end = (story.tokens[t + 1] for t in places)
        assert end in {*tokenizer.encode(".", specials=False), *tokenizer.eos_ids}  # it is learned with the value
        value = tokenizer.decode(answer).strip()
        told = tokenizer.decode(story.tokens[: max(story.filler) - 64 + 1])
        assert value in told, (value, told)


def test_a_story_that_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    text = np.arange(1000, dtype=np.int32) % 90
    with pytest.raises(TrainingError, match=r"tokens: 6 facts .* do not fit in 100: \d+ more are needed"):
        Stories(tokenizer, text).draw(random.Random(0), 100, 6, 64)
