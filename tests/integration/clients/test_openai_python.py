"""The `openai` package for Python against the whole server on a tiny model: as its users use it, nothing adapted."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from support.fleet import Fleet
from support.openai_clients import KEYS, SAY, ask, assistant, of, read, rendered_after, told, user
from support.serving import Process

pytestmark = pytest.mark.timeout(300)


def test_a_history_that_is_resent_is_read_once(client: OpenAI):
    """Three turns; what is read of each is its new message; the text is that of the session named by its id."""
    questions = ["What is it?", "And then?", "And after that?"]
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    texts, known, session, length, finish = [], [], None, 0, ""
    for i, question in enumerate(questions):
        messages.append(user(question))
        text, answer, about = ask(client, messages)
        assert about["why"] is None
        assert session in (None, about["session_id"])
        if i:
            assert answer.usage.prompt_tokens_details.cached_tokens == length - 1
            assert read(answer) == rendered_after(question, cut_off=finish == "length")
        session, finish = about["session_id"], answer.choices[0].finish_reason
        length = answer.usage.total_tokens
        texts.append(text)
        known.append(about["known_messages"])
        messages.append(answer.choices[0].message.model_dump())
    assert known == [0, 3, 5]

    again, _, about = ask(client, [messages[0], user(questions[0])], seed=1)
    by_id = [again]
    for question in questions[1:]:
        text, answer, second = ask(client, [user(question)], extra_body={"session_id": about["session_id"]})
        assert second["session_id"] == about["session_id"]
        assert "known_messages" not in second
        by_id.append(text)
    assert by_id == texts
    assert len({*texts}) == 3


def test_an_answer_is_regenerated_and_an_earlier_message_edited(client: OpenAI):
    """Each goes on from the turn before it, in a fork, and says what a conversation of its own would have said."""
    first, began, about = ask(client, [user("one")])
    head = [user("one"), assistant(first)]
    second, _, on = ask(client, [*head, user("two")])
    third, _, last = ask(client, [*head, user("two"), assistant(second), user("three")])
    assert (on["continued_from"], last["continued_from"]) == (about["turn"], on["turn"])

    again, _, regenerated = ask(client, [*head, user("two")])
    assert again == second
    assert regenerated["continued_from"] == about["turn"]
    assert regenerated["session_id"] not in (about["session_id"], None)
    other, _, sampled = ask(client, [*head, user("two")], temperature=1.5, seed=7)
    assert (other != second, sampled["known_messages"]) == (True, 2)

    changed = [*head, user("TWO, edited"), assistant(second), user("three")]
    edited, answer, about_edited = ask(client, changed)
    assert about_edited["known_messages"] == 2
    assert "messages[2] to messages[3]" in about_edited["why"]
    replayed = about_edited["restored"]["replayed_tokens"]  # a short turn that is no head is read again, and says so
    assert answer.usage.prompt_tokens_details.cached_tokens == began.usage.total_tokens - 1 - replayed

    def alone(messages: list[Any]) -> str:
        """The same in a session of its own, told nothing but what follows."""
        _, _, own = ask(client, messages[:1], store=True)
        return ask(client, messages[2:], extra_body={"session_id": own["session_id"]})[0]

    assert edited == alone(changed)
    assert third == ask(client, [*head, user("two"), assistant(second), user("three")])[0]


def test_a_history_is_known_to_every_api_and_after_a_restart(running: Fleet, client: OpenAI):
    first, answer, about = ask(client, [user("Where were we?")])
    url, process = running.api()
    with of(url) as other:
        second, there, on = ask(other, [user("Where were we?"), assistant(f"  {first}\n"), user("Go on.")])
    assert on["continued_from"] == about["turn"]
    assert there.usage.prompt_tokens_details.cached_tokens == answer.usage.total_tokens - 1
    process.stop()
    url, process = running.api()
    with of(url) as third:
        messages = [user("Where were we?"), assistant(first), user("Go on."), assistant(second), user("More.")]
        _, _, last = ask(third, messages)
    assert (last["continued_from"], last["session_id"]) == (on["turn"], about["session_id"])
    process.stop()


def test_a_history_is_known_to_another_worker(running: Fleet, workers: list[Process], client: OpenAI):
    """The state is brought back, and what had to be read again for it is said."""
    questions = ["Who is there?", "Since when?", "And who now?"]
    messages: list[Any] = []
    texts, length = [], 0
    for question in questions:
        if question == questions[-1]:
            workers.append(running.worker())
            assert workers.pop(0).stop() == 0
        text, answer, about = ask(client, [*messages, user(question)])
        assert about["known_messages"] == len(messages)
        replayed = about["restored"]["replayed_tokens"]
        assert answer.usage.prompt_tokens_details.cached_tokens + replayed == max(length - 1, 0)
        length = answer.usage.total_tokens
        texts.append(text)
        messages += [user(question), assistant(text)]
    assert about["restored"]["from"] == "redis"
    assert texts == told(client, questions)


def test_tenants_never_share_a_history(url: str):
    with of(url, "alice") as alice, of(url, "bob") as bob:
        text, _, about = ask(alice, [user("A secret?")])
        same, answer, other = ask(bob, [user("A secret?"), assistant(text), user("Tell me.")])
        assert (other["known_messages"], other["continued_from"]) == (0, None)
        assert other["why"]
        assert answer.usage.prompt_tokens_details.cached_tokens == 0
        with pytest.raises(openai.NotFoundError) as refused:
            ask(bob, [user("Tell me.")], extra_body={"session_id": about["session_id"]})
        assert refused.value.code == "session_not_found"
        assert same is not None


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI):
    whole, answer, _ = ask(client, [user("Stream it.")], seed=3, temperature=1.0, max_tokens=30)
    chunks = list(
        client.chat.completions.create(
            messages=[user("Stream it.")],
            **(SAY | {"seed": 3, "temperature": 1.0, "max_tokens": 30}),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts][-1] == answer.choices[0].finish_reason
    assert {part.usage for part in parts} == {None}
    assert (last.choices, last.usage) == ([], answer.usage)
    assert {part.id for part in chunks} == {chunks[0].id}
    assert parts[-1].model_extra["perennial"]["turn"].startswith("turn_")
    without = list(client.chat.completions.create(messages=[user("Stream it.")], **SAY, stream=True))
    assert all(part.choices for part in without)
    assert all("usage" not in part.model_fields_set for part in without)


async def test_the_asynchronous_client_streams_choices_apart(url: str):
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEYS["alice"], max_retries=0) as client:
        asked = SAY | {"temperature": 1.2, "seed": 11}
        texts = ["", ""]
        async for chunk in await client.chat.completions.create(
            messages=[user("Two of them.")], **asked, n=2, stream=True
        ):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        whole = await client.chat.completions.create(messages=[user("Two of them.")], **asked, n=2)
    assert texts == [choice.message.content for choice in whole.choices]
    assert texts[0] != texts[1]
    sessions = [one["session_id"] for one in whole.model_extra["perennial"]["choices"]]
    assert len(set(sessions)) == 2
    with of(url) as again:  # either of them can be gone on from
        for session, text in zip(sessions, texts, strict=True):
            _, _, about = ask(again, [user("Two of them."), assistant(text), user("And?")], n=2)
            assert about["known_messages"] == 2
            assert about["session_id"] == session
            assert len({one["continued_from"] for one in about["choices"]}) == 1


def test_stop_strings_log_probabilities_and_length(client: OpenAI):
    whole, answer, _ = ask(client, [user("Stop.")], max_tokens=20, logprobs=True, top_logprobs=2)
    said = answer.choices[0].logprobs.content
    assert b"".join(bytes(one.bytes) for one in said).decode("utf-8", "replace") == whole
    assert all(len(one.top_logprobs) == 2 and one.top_logprobs[0].logprob >= one.logprob for one in said)
    assert answer.choices[0].finish_reason == ("length" if answer.usage.completion_tokens == 20 else "stop")
    stop = whole[5:7]
    cut, answer, about = ask(client, [user("Stop.")], max_tokens=20, stop=stop)
    assert cut == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    _, _, on = ask(client, [user("Stop."), assistant(cut), user("Go.")])
    assert on["continued_from"] == about["turn"]


def test_completions_are_raw(client: OpenAI):
    by_text = client.completions.create(prompt=["abc", "xyz"], n=2, seed=5, **(SAY | {"temperature": 1.0}), logprobs=1)
    assert [choice.index for choice in by_text.choices] == [0, 1, 2, 3]
    assert by_text.usage.prompt_tokens == 6
    by_ids = client.completions.create(prompt=[list(b"abc"), list(b"xyz")], seed=5, **(SAY | {"temperature": 1.0}))
    assert [choice.text for choice in by_ids.choices] == [by_text.choices[0].text, by_text.choices[2].text]
    logprobs = by_text.choices[1].logprobs
    assert "".join(logprobs.tokens) == by_text.choices[1].text or "\ufffd" in by_text.choices[1].text
    assert logprobs.text_offset[:2] == [0, len(logprobs.tokens[0])]
    assert by_text.model_extra["perennial"]["session_id"] is None
    streamed = list(client.completions.create(prompt="abc", seed=5, **(SAY | {"temperature": 1.0}), stream=True))
    assert "".join(part.choices[0].text for part in streamed) == by_text.choices[0].text


def test_models_have_names_and_aliases(client: OpenAI):
    assert [model.id for model in client.models.list()] == ["tiny", "gpt-4o-mini"]
    assert client.models.retrieve("gpt-4o-mini").model_extra["root"] == "tiny"
    for name in ("other", "gpt-5"):
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve(name)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError) as missing:
            ask(client, [user("x")], model=name)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert ask(client, [user("x")], model="gpt-4o-mini")[1].model == "tiny"


def test_a_repeated_request_is_answered_by_the_first(client: OpenAI, url: str):
    """Also where its history was recognised, and by now is found elsewhere: a like conversation was had meanwhile."""
    first, _, _ = ask(client, [user("Once.")])
    messages = [user("Once."), assistant(first), user("Twice?")]
    named = {"extra_headers": {"Idempotency-Key": "the-request"}, "n": 2}
    _, answer, about = ask(client, messages, **named)
    ask(client, [user("Once.")])  # the same text in another session, which the index names from now on
    _, again, repeated = ask(client, messages, **named)
    assert again.id == answer.id
    assert repeated["choices"] == about["choices"]
    raw = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "tiny", "messages": messages, "n": 2, "max_tokens": 5},
        headers={"Authorization": f"Bearer {KEYS['alice']}", "Idempotency-Key": "another"},
    )
    assert raw.headers["x-session-id"] == raw.json()["perennial"]["session_id"]
    assert "idempotent-replayed" not in raw.headers


def test_what_is_not_stored_is_not_recognised(client: OpenAI):
    text, _, about = ask(client, [user("Forget it.")], store=False)
    assert about["session_id"] is None
    _, _, after = ask(client, [user("Forget it."), assistant(text), user("And?")])
    assert after["known_messages"] == 0
    assert "not stored" in after["why"]


def respond(client: OpenAI, said: Any, **more: Any) -> Any:
    """A response; greedy, and short."""
    asked = {"model": "tiny", "max_output_tokens": 12, "temperature": 0.0, "extra_body": SAY["extra_body"]}
    return client.responses.create(input=said, **(asked | more))


def test_responses_continue_each_other(client: OpenAI, url: str):
    """Two children of one parent, each what a conversation of its own says; nothing is read twice."""
    parent = respond(client, "Once?", instructions="Be brief.")
    assert parent.output_text
    children = [respond(client, word, previous_response_id=parent.id) for word in ("One.", "Two.", "One.")]
    assert children[0].output_text == children[2].output_text != children[1].output_text
    for child in children:
        cached = child.usage.input_tokens_details.cached_tokens
        replayed = child.model_extra["perennial"]["restored"]["replayed_tokens"]
        assert cached + replayed == parent.usage.total_tokens - 1
        assert child.previous_response_id == parent.id
    assert len({child.model_extra["perennial"]["session_id"] for child in children}) == 3
    first, _, about = ask(client, [{"role": "system", "content": "Be brief."}, user("Once?")])
    then, _, _ = ask(client, [user("One.")], extra_body={"session_id": about["session_id"]})
    assert (first, then) == (parent.output_text, children[0].output_text)

    assert client.responses.retrieve(parent.id).to_dict() == parent.to_dict()
    with of(url, "bob") as bob:
        for refused in (
            lambda: bob.responses.retrieve(parent.id),
            lambda: bob.responses.delete(parent.id),
            lambda: bob.responses.cancel(parent.id),
            lambda: respond(bob, "Mine?", previous_response_id=parent.id),
        ):
            with pytest.raises(openai.NotFoundError) as missing:
                refused()
            assert missing.value.code == "response_not_found"
    client.responses.delete(parent.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(parent.id)
    assert respond(client, "And?", previous_response_id=children[0].id).output_text


def test_a_response_is_streamed_in_numbered_events(client: OpenAI):
    whole = respond(client, "Stream it.")
    events = list(respond(client, "Stream it.", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    last = events[-1].response
    assert (last.status, last.output_text, last.usage) == (whole.status, whole.output_text, whole.usage)
    again = list(client.responses.retrieve(last.id, stream=True, starting_after=4))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in events[5:]]
    with client.responses.stream(
        model="tiny", input="Stream it.", max_output_tokens=12, temperature=0.0, extra_body=SAY["extra_body"]
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    likely = respond(client, "Stream it.", include=["message.output_text.logprobs"], top_logprobs=2)
    said = likely.output[0].content[0].logprobs
    assert b"".join(bytes(one.bytes) for one in said).decode("utf-8", "replace") == whole.output_text
    assert all(len(one.top_logprobs) == 2 for one in said)


def test_a_background_response_is_polled_followed_and_cancelled(client: OpenAI):
    said = {"extra_body": SAY["extra_body"] | {"seed": 3}, "temperature": 1.0}
    begun = respond(client, "Take your time.", background=True, max_output_tokens=30, **said)
    assert begun.status in ("queued", "in_progress")
    followed = list(client.responses.retrieve(begun.id, stream=True, starting_after=0))
    assert followed[0].sequence_number == 1
    ended = client.responses.retrieve(begun.id)
    assert ended.status in ("completed", "incomplete")
    assert ended.to_dict() == followed[-1].response.to_dict()
    assert client.responses.cancel(begun.id).status == ended.status  # it had ended

    long = respond(client, "For ever.", background=True, max_output_tokens=4000, **said)
    stream = client.responses.retrieve(long.id, stream=True)
    deltas = []
    for event in stream:
        if event.type == "response.output_text.delta":
            deltas.append(event.delta)
            if len(deltas) == 3:
                break
    stream.close()
    cancelled = client.responses.cancel(long.id)
    assert cancelled.status in ("cancelled", "completed")
    assert cancelled.output_text.startswith("".join(deltas))
    assert respond(client, "Go on.", previous_response_id=long.id).output_text is not None


def test_a_conversation_is_held_by_its_id(client: OpenAI, url: str):
    conversation = client.conversations.create(
        metadata={"topic": "tests"}, items=[{"type": "message", "role": "system", "content": "Be brief."}]
    )
    first = respond(client, "Hello?", conversation=conversation.id)
    second = respond(client, "And?", conversation=conversation.id)
    assert second.usage.input_tokens_details.cached_tokens == first.usage.total_tokens - 1
    text, _, about = ask(client, [{"role": "system", "content": "Be brief."}, user("Hello?")])
    assert text == first.output_text
    assert ask(client, [user("And?")], extra_body={"session_id": about["session_id"]})[0] == second.output_text
    assert client.conversations.retrieve(conversation.id).metadata == {"topic": "tests"}
    assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
    with of(url, "bob") as bob, pytest.raises(openai.NotFoundError) as missing:
        respond(bob, "Mine?", conversation=conversation.id)
    assert missing.value.code == "conversation_not_found"
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.APIStatusError) as gone:
        respond(client, "Still there?", conversation=conversation.id)
    assert gone.value.status_code == 410
