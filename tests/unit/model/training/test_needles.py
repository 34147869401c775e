"""The evaluation's texts: where the facts stand, how far the questions, what is held out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from model.tokenizer import Tokenizer, load_tokenizer
from model.training.associative import Pairs, pools
from model.training.draws import draws
from model.training.filler import Filler
from model.training.held_out import DIGITS, PEOPLE, REPEATED, TEMPLATES, sentences, shared_with
from model.training.needles import LEAST, NeedleError, Story, choose_templates, draw_facts, frame
from support.serving import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Bytes as tokens, ChatML."""
    return load_tokenizer(tiny_tokenizer(tmp_path_factory.mktemp("bytes")), None)


def story(tokenizer: Tokenizer, form: str = "plain", facts: int = 4, number: int = 0, kind: str = "varied") -> Story:
    return Story(tokenizer, Filler(kind, tokenizer, None), form, facts, 0, number)


@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("facts", [1, 4, 16])
def test_facts_stand_where_the_story_says(tokenizer: Tokenizer, form: str, facts: int) -> None:
    told = story(tokenizer, form, facts)
    assert len(told.facts) == len(told.fact_ends) == len(told.questions) == facts
    for fact, end in zip(told.facts, told.fact_ends, strict=True):
        before = tokenizer.decode(told.beginning[:end])
        assert before.rstrip().endswith(fact.put(fact.template.fact)) or form == "chat"
        assert before.count(fact.value) == before.count(fact.put(fact.template.fact)) == 1
    assert tokenizer.decode(told.beginning[: told.fact_ends[0]]).index(told.facts[0].value) > LEAST  # past the sinks
    assert told.fact_ends[-1] == len(told.beginning)


@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("kind", ["repeated", "varied"])
@pytest.mark.parametrize("distances", [(200,), (64, 512, 5000), (97, 98 + 97, 1000)])
def test_a_distance_is_exact_in_tokens(tokenizer: Tokenizer, form: str, kind: str, distances: tuple[int, ...]) -> None:
    told = story(tokenizer, form, kind=kind)
    at, text = 0, list(told.beginning)
    for distance in distances:
        text += told.between(distance - at)
        at = distance
        assert len(text) - len(told.beginning) == distance
    if form == "chat":  # whole turns, and nothing but turns
        assert text[-1] == tokenizer.special["<|im_end|>"]
        assert text.count(tokenizer.special["<|im_start|>"]) == text.count(tokenizer.special["<|im_end|>"])


def test_a_chat_is_what_the_template_renders(tokenizer: Tokenizer) -> None:
    """Turn by turn as the server would feed it, the assistant's answers among it."""
    assert tokenizer.chat is not None
    told = story(tokenizer, "chat", 2)
    text = [*tokenizer.encode("", specials=True), *told.beginning, *told.between(300), *told.questions[0].prompt]
    spelled = "".join({256: "<|im_start|>", 257: "<|im_end|>"}.get(t) or chr(t) for t in text)
    parts = [part.split("\n", 1) for part in spelled.split("<|im_start|>")[1:]]
    messages = [{"role": role, "content": content.partition("<|im_end|>")[0]} for role, content in parts]
    assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
    assert tokenizer.chat.render_first(messages) == text


def test_a_turn_that_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    around = len(frame(tokenizer).head) + len(frame(tokenizer).tail)
    with pytest.raises(NeedleError, match="too few"):
        list(story(tokenizer, "chat").between(around))


def test_a_model_without_turns_is_told_plain_stories_only(tmp_path: Path) -> None:
    bare = load_tokenizer(tiny_tokenizer(tmp_path, template=None), None)
    assert story(bare).questions
    with pytest.raises(NeedleError, match="no chat template"):
        story(bare, "chat")


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_question_asks_for_its_fact_and_only_what_shows_is_scored(tokenizer: Tokenizer, form: str) -> None:
    told = story(tokenizer, form, 16)
    for fact, question in zip(told.facts, told.questions, strict=True):
        prompt = tokenizer.decode(question.prompt)
        assert fact.subject in prompt
        assert fact.value not in prompt
        assert prompt.endswith(fact.put(fact.template.lead))
        assert tokenizer.decode(question.answer) == f" {fact.value}"
        scored = [token for token, counts in zip(question.answer, question.scored, strict=True) if counts]
        assert tokenizer.decode(scored) == fact.value


def test_the_same_seed_tells_the_same_story_and_another_another(tokenizer: Tokenizer) -> None:
    first, again, other = (story(tokenizer, number=n) for n in (0, 0, 1))
    assert first.beginning == again.beginning
    assert first.questions == again.questions
    assert list(first.between(3000)) == list(again.between(3000))
    assert first.beginning != other.beginning
    assert list(islice(sentences(draws(1)), 50)) == list(islice(sentences(draws(1)), 50))


def test_facts_of_a_story_differ_and_the_templates_vary() -> None:
    for number in range(50):
        facts = draw_facts(draws(0, number), 16)
        assert len({fact.subject for fact in facts}) == len({fact.value for fact in facts}) == 16
        assert {fact.template for fact in facts} == set(TEMPLATES)
        assert all(len(fact.value) == DIGITS for fact in facts if fact.template.values is None)
    with pytest.raises(NeedleError, match="1 to 64"):
        draw_facts(draws(0), 65)
    with pytest.raises(NeedleError, match="plays"):
        draw_facts(draws(0), 40, choose_templates(["plays"]))
    with pytest.raises(NeedleError, match="no template 'sings'"):
        choose_templates(["sings"])


def test_filler_tells_nothing_that_is_asked_for() -> None:
    told = " ".join(islice(sentences(draws(0)), 5000)) + REPEATED
    values = {value for template in TEMPLATES for value in template.values or ()}
    assert not any(f" {word}" in told for word in (*PEOPLE, *values))
    assert not any(c.isdigit() for c in told)


def test_what_training_shares_with_the_evaluation_is_named() -> None:
    assert shared_with(["Alice", "door", "trombones"], ["The {x} code is {y}.", "What is the {x} code?"]) == []
    assert shared_with(["Alice", "maren", "hollow tree"]) == ["maren", "hollow tree"]
    assert shared_with(texts=["{name} PLAYS the {thing}", "{a} sings the {b}"]) == ["{name} PLAYS the {thing}"]
    assert shared_with(texts=[REPEATED.strip()]) == [REPEATED.strip()]


def test_pairs_share_no_token_with_what_is_between(tokenizer: Tokenizer) -> None:
    keys, values, noise = map(set, pools(tokenizer))
    assert not keys & values
    assert not keys & noise
    assert not values & noise
    assert not (keys | values | noise) & tokenizer.special_ids
    text = Pairs(tokenizer, 32, 0, 0)
    told = text.beginning[LEAST:]
    assert len(told) == 64
    assert len(set(told)) == 64
    assert set(text.beginning[:LEAST]) | set(text.between(5000)) <= noise
    assert [q.prompt + q.answer for q in text.questions] == list(zip(told[0::2], told[1::2], strict=True))
    assert all(q.among == told[1::2] for q in text.questions)
    assert Pairs(tokenizer, 32, 0, 0).beginning == text.beginning != Pairs(tokenizer, 32, 0, 1).beginning
    with pytest.raises(NeedleError, match="pairs"):
        Pairs(tokenizer, 86, 0, 0)
