"""LangChain's ChatOpenAI against the whole server on a tiny model: as its users use it, nothing adapted."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import OpenAI

from support.openai_clients import KEYS, SAY, rendered_after, told

pytestmark = pytest.mark.timeout(300)


def chat(url: str, **more: Any) -> ChatOpenAI:
    """Its client, greedy and short."""
    return ChatOpenAI(base_url=f"{url}/v1", api_key=KEYS["langchain"], max_retries=0, timeout=60, **(SAY | more))


def used(answer: AIMessage) -> tuple[int, int, int]:
    """Tokens of the whole conversation before the answer, of them not read again, and of both together."""
    said = answer.usage_metadata
    assert said is not None
    return said["input_tokens"], said["input_token_details"].get("cache_read", 0), said["total_tokens"]


def test_a_history_that_is_resent_is_read_once(url: str, client: OpenAI) -> None:
    """invoke and stream take turns; only the new message is read, and the texts are a named session's."""
    model = chat(url, stream_usage=True)
    questions = ["Where is it?", "Near what?", "East of it?", "Since when?"]
    messages: list[BaseMessage] = [SystemMessage("Be short.")]
    before: AIMessage | None = None
    for turn, question in enumerate(questions):
        messages.append(HumanMessage(question))
        answer = _streamed(model, messages) if turn % 2 else model.invoke(messages)
        read, cached, _ = used(answer)
        assert cached == (used(before)[2] - 1 if before else 0)
        if before:
            cut_off = before.response_metadata["finish_reason"] == "length"
            assert read - cached == rendered_after(question, cut_off=cut_off)
        assert answer.response_metadata["model_name"] == "tiny"
        messages.append(answer)
        before = answer
    assert [said.text for said in messages if isinstance(said, AIMessage)] == told(client, questions, "Be short.")


def _streamed(model: ChatOpenAI, messages: list[BaseMessage]) -> AIMessage:
    """The chunks of a stream as one message, as its users add them up."""
    first, *others = list(model.stream(messages))
    for chunk in others:
        first += chunk
    return first


async def test_the_asynchronous_client_answers_many_at_once(url: str, client: OpenAI) -> None:
    model = chat(url)
    questions = ["One by one?", "Two by two?", "Three by three?"]
    answers = await model.abatch(questions)
    assert [answer.text for answer in answers] == [told(client, [question])[0] for question in questions]
    text = ""
    async for chunk in model.astream(questions[0]):
        text += chunk.text
    assert text == answers[0].text


@pytest.mark.parametrize("by_id", [False, True], ids=["the whole history", "the response before"])
def test_through_responses(url: str, client: OpenAI, by_id: bool) -> None:
    """Whether all of it is sent or only what is new: only what is new is read."""
    model = chat(url, use_responses_api=True, use_previous_response_id=by_id)
    questions = ["Which way?", "Up or down?", "How high?"]
    messages: list[BaseMessage] = []
    length = 0
    for turn, question in enumerate(questions):
        messages.append(HumanMessage(question))
        answer = _streamed(model, messages) if turn % 2 else model.invoke(messages)
        _, cached, total = used(answer)
        assert cached == max(length - 1, 0)
        length = total
        messages.append(answer)
    assert [said.text for said in messages if isinstance(said, AIMessage)] == told(client, questions)


def test_what_is_refused_is_raised_by_its_name(url: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        chat(url, model="gpt-5").invoke("Hello?")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError):
        ChatOpenAI(base_url=f"{url}/v1", api_key="wrong", model="tiny").invoke("Hello?")
