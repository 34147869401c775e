"""The OpenAI endpoints' parts that need no server: schemas, seeds, hashes of conversations, usage, names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.sampling import fold_seed
from server.api.folding import asked, opening
from server.api.openai.choices import choice_seed
from server.api.openai.chunks import usage
from server.api.openai.history import folded
from server.api.openai.models import names, served_name
from server.api.schemas.common import parse
from server.api.schemas.openai.chat import ChatMessage, ChatRequest
from server.api.schemas.openai.completions import CompletionRequest
from server.errors import InvalidRequest, UnknownParameter
from server.settings import Settings

CHAT = {"model": "m", "messages": [{"role": "user", "content": "zabaglione"}]}
TEXT = {"model": "m", "prompt": "zabaglione"}


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 7))
def test_a_choice_has_the_seed_that_the_model_folds(seed: int, choice: int):
    assert choice_seed(seed, choice) == fold_seed(seed, choice)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"functions": [{}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ({"prediction": {"type": "content", "content": "zabaglione"}}, "prediction"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    ({"n": 9}, "n"),
    ({"n": 0}, "n"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"logprobs": 1}, "logprobs"),
    ({"stream_options": {"include_obfuscation": True}, "stream": True}, "stream_options.include_obfuscation"),
    ({"stream_options": {"colour": 1}, "stream": True}, "stream_options.colour"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"model": 5}, "model"),
    ({"temprature": 1}, "temprature"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "function", "content": "zabaglione"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "a", "name": "zabaglione"}]}, "messages[0].name"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": "a", "tool_call_id": "c"}]}, "messages[0]"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(fields)[:50] for fields, _ in REFUSED])
def test_what_is_not_honoured_is_refused_by_name(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidRequest) as caught:
        parse(ChatRequest, CHAT | fields)
    assert caught.value.param == param
    assert "zabaglione" not in caught.value.message


def test_a_part_that_is_no_text_is_named():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(InvalidRequest, match="part 1 is of type image_url"):
        parse(ChatRequest, CHAT | {"messages": [{"role": "user", "content": parts}]})


def test_neutral_values_and_labels_are_accepted():
    neutral = {
        "tools": [], "tool_choice": "none", "functions": [], "function_call": "none", "parallel_tool_calls": False,
        "response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "prediction": None,
        "reasoning_effort": None, "verbosity": "medium", "service_tier": "auto", "user": "u", "metadata": {"a": "b"},
        "safety_identifier": "s", "prompt_cache_key": "k", "store": None, "stop": None, "logit_bias": {"5": 3},
    }  # fmt: skip
    body = parse(ChatRequest, CHAT | neutral)
    assert (body.store, body.stop, body.logit_bias) == (True, [], {"5": 3})


def test_every_parameter_of_openai_is_known():
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase as Chat
    from openai.types.completion_create_params import CompletionCreateParamsBase as Text

    assert set(Chat.__annotations__) - set(ChatRequest.model_fields) == set()
    assert set(Text.__annotations__) - set(CompletionRequest.model_fields) == set()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_completions_refuse_by_name(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidRequest) as caught:
        parse(CompletionRequest, TEXT | fields)
    assert caught.value.param == param
    assert parse(CompletionRequest, TEXT | {"echo": False, "suffix": "", "best_of": 1})


def test_parts_are_joined_and_an_answer_comes_back_as_it_was_given():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "annotations": None}
    body = parse(ChatRequest, CHAT | {"messages": [{"role": "user", "content": parts}, answer]})
    assert [message.plain() for message in body.messages] == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
    ]


def test_calls_of_tools_are_read_from_their_text():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    body = parse(ChatRequest, CHAT | {"messages": messages})
    assert body.messages[0].plain()["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    call["function"]["arguments"] = "{"  # type: ignore[index]
    with pytest.raises(InvalidRequest) as caught:
        parse(ChatRequest, CHAT | {"messages": messages})
    assert caught.value.param == "messages[0].tool_calls[0].function.arguments"


def messages_of(*said: tuple[str, str]) -> list[ChatMessage]:
    return [ChatMessage(role=role, content=content) for role, content in said]  # type: ignore[arg-type]


def test_the_same_words_have_the_same_hash_for_one_tenant_and_model_only():
    said = messages_of(("developer", "be"), ("user", "a"), ("assistant", " b\n"), ("user", "c"))
    same = messages_of(("system", "be"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    one = folded(said, "t", "m")
    assert (one.digests, one.expected) == (folded(same, "t", "m").digests, 3)
    assert asked(opening("t", "m"), said) == one.digests[-1]
    assert asked(one.digests[1], said[2:3]) is None  # what comes next becomes a part of it
    assert asked(one.digests[2], said[3:]) == one.digests[-1]
    for other in (folded(said, "u", "m"), folded(said, "t", "n"), folded(said, "t", "m", [{"type": "function"}])):
        assert not set(other.digests) & set(one.digests)
    edited = folded(messages_of(("system", "be"), ("user", "a "), ("assistant", "b"), ("user", "c")), "t", "m")
    assert edited.digests[0] == one.digests[0]
    assert not set(edited.digests[1:]) & set(one.digests[1:])


def place_of(index: int) -> str:
    return f"input[{index}]"


def test_an_answer_that_is_to_be_continued_has_no_hash_and_is_not_expected():
    body = folded(messages_of(("user", "a"), ("assistant", "b")), "t", "m")
    assert (asked(opening("t", "m"), body.messages), body.expected) == (None, 0)
    assert body.missed(0, [], place_of) is None
    assert asked(None, messages_of(("user", "a"))) is None


def test_why_no_more_was_known():
    body = folded(
        messages_of(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")), "t", "m"
    )
    assert body.missed(4, [], place_of) is None
    assert "ends in input[3]: input[2] to input[3] differ" in str(body.missed(2, [], place_of))
    assert "session_gone" in str(body.missed(2, ["session_gone"], place_of))


def test_usage_counts_a_prompt_once_and_all_that_was_said():
    one = {"prompt": 0, "before": 10, "prompt_tokens": 5, "usage": {"cached_tokens": 9, "completion_tokens": 3}}
    two = {**one, "usage": {"cached_tokens": 0, "completion_tokens": 4}}
    other = {"prompt": 1, "before": 0, "prompt_tokens": 2, "usage": {}}
    assert usage([one]) == {
        "prompt_tokens": 15,
        "completion_tokens": 3,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 9},
    }
    assert usage([one, two, other])["prompt_tokens_details"] == {"cached_tokens": 0}
    assert (usage([one, two, other])["prompt_tokens"], usage([one, two, other])["completion_tokens"]) == (17, 7)


def test_a_path_is_served_under_its_last_part_and_aliases_count_for_their_model():
    assert served_name("/models/tiny/") == served_name("./x/tiny") == "tiny"
    assert served_name("~/a.gguf") == "a.gguf"
    assert served_name("org/name") == "org/name"
    settings = Settings(model="/models/tiny", model_aliases="gpt, a=tiny,b=/models/tiny,c=other")  # type: ignore[arg-type]
    assert names(settings, None) == dict.fromkeys(["tiny", "gpt", "a", "b"], "tiny")


def test_an_unknown_parameter_is_told_its_nearest():
    with pytest.raises(UnknownParameter, match="max_completion_tokens"):
        parse(ChatRequest, CHAT | {"max_completion_token": 5})
