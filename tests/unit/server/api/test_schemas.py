"""What a body may be, what an error says of it, and that no error repeats what was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.body import parse_json
from server.api.schemas.common import parse, path
from server.api.schemas.generate import GenerateRequest
from server.api.schemas.sessions import ListSessions
from server.errors import InvalidRequest, UnknownParameter


def refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(GenerateRequest, body)
    return caught.value


def test_the_least_that_can_be_asked_has_the_documented_defaults():
    body = parse(GenerateRequest, {"prompt": "x"})
    assert (body.stream, body.store, body.on_disconnect, body.wait_s) == (True, True, None, 0.0)
    assert (body.temperature, body.top_p, body.top_k, body.min_p, body.repetition_penalty) == (1.0, 1.0, 0, 0.0, 1.0)
    assert (body.max_tokens, body.seed, body.stop, body.logprobs, body.ignore_eos) == (None, None, [], None, False)


def test_null_is_absent_and_one_stop_is_a_list():
    body = parse(GenerateRequest, {"prompt": "x", "messages": None, "temperature": None, "stop": "\n\n"})
    assert (body.temperature, body.stop) == (1.0, ["\n\n"])
    assert refused({"prompt": "x", "nonsense": None}).param == "nonsense"


def test_an_unknown_name_is_named_before_what_is_missing():
    error = refused({"promt": "x"})
    assert isinstance(error, UnknownParameter)
    assert (error.param, error.message) == ("promt", "Unknown parameter: promt. Did you mean prompt?")


@pytest.mark.parametrize("given_inputs", [("prompt", "messages"), ("prompt", "input_ids"), ("messages", "input_ids")])
def test_two_inputs_are_named(given_inputs: tuple[str, str]):
    inputs = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "input_ids": [1]}
    message = refused({name: inputs[name] for name in given_inputs}).message
    assert all(name in message.partition(", not ")[2] for name in given_inputs)


def test_one_end_of_each_range_is_in_and_the_next_number_out():
    for name, good, bad in [
        ("temperature", 2, 2.001),
        ("temperature", 0, -1e-9),
        ("top_p", 0, -0.1),
        ("min_p", 1, 1.1),
        ("top_k", 0, -1),
        ("seed", 2**64 - 1, 2**64),
        ("seed", -(2**63), -(2**63) - 1),
        ("presence_penalty", -2, -2.1),
        ("logprobs", 20, 21),
        ("max_tokens", 1, 0),
        ("stop", ["a"] * 16, ["a"] * 17),
        ("stop_token_ids", [0] * 16, [0] * 17),
    ]:
        assert getattr(parse(GenerateRequest, {"prompt": "x", name: good}), name) == good
        assert refused({"prompt": "x", name: bad}).param == name


def test_names_from_the_client_are_printable_and_cut():
    assert path(("messages", 0, "role")) == "messages[0].role"
    assert path(("\ud800é",)) == "\\ud800\\xe9"
    assert len(path(("x" * 1000,))) == 64


def test_a_query_reads_numbers_from_text():
    assert parse(ListSessions, {"limit": "5"}).limit == 5
    with pytest.raises(InvalidRequest):
        parse(ListSessions, {"limit": "5.5"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted(GenerateRequest.model_fields)) | st.text(max_size=12)


def complaint(read: Callable[[Any], Any], value: Any) -> str | None:
    """What is said against a value; None where nothing is. Any other exception is the test's failure."""
    try:
        read(value)
    except InvalidRequest as error:
        return error.message
    return None


@given(st.dictionaries(NAMES, JSON, max_size=6) | JSON)
def test_whatever_is_sent_is_parsed_or_refused_in_words(body: Any):
    message = complaint(lambda value: parse(GenerateRequest, value), body)
    assert message is None or (message.endswith((".", "?")) and message.isprintable())


SECRET = "zabaglione"


@given(st.sampled_from(sorted(GenerateRequest.model_fields)), st.sampled_from([SECRET, [SECRET], {"content": SECRET}]))
def test_no_error_repeats_a_value(name: str, value: Any):
    message = complaint(lambda body: parse(GenerateRequest, body), {"prompt": SECRET, name: value})
    assert SECRET not in (message or "")


def test_strict_json_is_read_as_json_is():
    assert parse_json('{"a": [1, 2.5, "ü\\ud83d\\ude00", null, true]}'.encode()) == {"a": [1, 2.5, "ü😀", None, True]}


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_refused(raw: bytes):
    message = complaint(parse_json, raw)
    assert message is None or (message.endswith(".") and message.isprintable())
