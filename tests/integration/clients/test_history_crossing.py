"""One conversation held under one name and gone on with under another: whichever way its turns were asked for, whoever
sends the whole of it is recognised; and what cannot be sent again ends that."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import OpenAI

from support.openai_clients import KEYS, SAY, ask, assistant, user

pytestmark = pytest.mark.timeout(300)

SYSTEM = {"role": "system", "content": "Be brief."}


def respond(client: OpenAI, said: Any, **more: Any) -> Any:
    asked = {"model": "tiny", "max_output_tokens": 12, "temperature": 0.0, "extra_body": SAY["extra_body"]}
    return client.responses.create(input=said, **(asked | more))


def about(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.model_extra["perennial"]
    return found


@pytest.fixture
def native(url: str) -> Any:
    """A POST to the native surface; its answer."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEYS['alice']}"}, timeout=60) as http:

        def post(path: str, **body: Any) -> dict[str, Any]:
            response = http.post(path, json=body)
            assert response.status_code in (200, 201), response.text
            said: dict[str, Any] = response.json()
            return said

        yield post


def generated(native: Any, **body: Any) -> dict[str, Any]:
    said = native("/v1/generate", stream=False, temperature=0.0, repetition_penalty=5, max_tokens=12, **body)
    assert isinstance(said, dict)
    return said


def test_a_history_resent_to_responses_is_read_once(client: OpenAI):
    """Items come back as the answers had them; the text is what `previous_response_id` leads to."""
    first = respond(client, "Who is there?", instructions="Be brief.")
    assert about(first)["known_messages"] == 0
    sent = [user("Who is there?"), *[item.model_dump() for item in first.output], user("And who else?")]
    second = respond(client, sent, instructions="Be brief.")
    assert about(second) | {"known_messages": 3, "why": None} == about(second)
    assert about(second)["continued_from"] == about(first)["turn"]
    assert about(second)["session_id"] == about(first)["session_id"]
    assert second.usage.input_tokens_details.cached_tokens == first.usage.total_tokens - 1
    chained = respond(client, "And who else?", previous_response_id=first.id)
    assert chained.output_text == second.output_text
    assert "known_messages" not in about(chained)

    edited = respond(client, [user("Who is THERE?"), *sent[1:]], instructions="Be brief.")
    assert about(edited)["known_messages"] == 0
    assert "instructions to input[1] differ" in about(edited)["why"]
    assert client.responses.retrieve(edited.id).to_dict() == edited.to_dict()
    more = [*sent, *[item.model_dump() for item in second.output], user("More.")]
    named: dict[str, Any] = {"instructions": "Be brief.", "extra_headers": {"Idempotency-Key": "resent"}}
    begun, again = (respond(client, more, **named) for _ in range(2))
    assert about(begun)["known_messages"] == 5
    assert again.to_dict() == begun.to_dict()


def test_responses_and_chat_completions_go_on_with_each_other(client: OpenAI):
    first = respond(client, "By response?", instructions="Be brief.")
    second = respond(client, "Another one?", previous_response_id=first.id)
    messages = [SYSTEM, user("By response?"), assistant(first.output_text)]
    messages += [user("Another one?"), assistant(second.output_text)]
    text, _, chat = ask(client, [*messages, user("By chat?")])
    assert (chat["known_messages"], chat["why"]) == (5, None)
    assert chat["continued_from"] == about(second)["turn"]
    items = [*messages[1:], user("By chat?"), assistant(text), user("By response again?")]
    third = respond(client, items, instructions="Be brief.")
    assert (about(third)["known_messages"], about(third)["continued_from"]) == (7, chat["turn"])
    assert ask(client, [*messages[:3], user("Elsewhere?")])[2]["continued_from"] == about(first)["turn"]


def test_whoever_named_the_session_may_resend_its_history(client: OpenAI, native: Any):
    """Chat completions in a session, a conversation with items, native turns, a fork: then all of it, sent anew."""
    first, _, begun = ask(client, [SYSTEM, user("In a session?")])
    here = {"session_id": begun["session_id"]}
    second, _, on = ask(client, [user("Still here?")], extra_body=here)
    third = generated(native, messages=[user("And natively?")], **here)
    said = [SYSTEM, user("In a session?"), assistant(first), user("Still here?"), assistant(second)]
    said += [user("And natively?"), assistant(third["text"])]
    _, _, resent = ask(client, [*said, user("Do you know me?")], store=False)
    assert (resent["known_messages"], resent["continued_from"]) == (7, third["turn"])

    fork = native(f"/v1/sessions/{begun['session_id']}/fork", at_turn=on["turn"])["id"]
    other = generated(native, session_id=fork, messages=[user("In a fork?")])
    _, _, resent = ask(client, [*said[:5], user("In a fork?"), assistant(other["text"]), user("Me again.")])
    assert (resent["known_messages"], resent["session_id"]) == (7, fork)

    conversation = client.conversations.create(items=[{"type": "message"} | SYSTEM, {"type": "message"} | user("Hi.")])
    answer = respond(client, "Are you there?", conversation=conversation.id)
    held = [SYSTEM, user("Hi."), user("Are you there?"), assistant(answer.output_text)]
    _, _, resent = ask(client, [*held, user("Me, without a name.")])
    assert (resent["known_messages"], resent["continued_from"]) == (4, about(answer)["turn"])

    alone = generated(native, messages=[SYSTEM, user("Natively begun.")])
    _, _, resent = ask(client, [SYSTEM, user("Natively begun."), assistant(alone["text"]), user("And by chat.")])
    assert resent["continued_from"] == alone["turn"]


def test_raw_turns_and_what_is_not_stored_end_the_chain(client: OpenAI, native: Any):
    first, _, begun = ask(client, [user("Words first?")])
    here = {"session_id": begun["session_id"]}
    generated(native, prompt="raw", **here)
    after, _, _ = ask(client, [user("Words again?")], extra_body=here)
    sent = [user("Words first?"), assistant(first), user("Words again?"), assistant(after), user("Known?")]
    _, _, resent = ask(client, sent, store=False)
    assert (resent["known_messages"], resent["continued_from"]) == (2, begun["turn"])
    assert "messages[3]" in resent["why"]

    raw = generated(native, input_ids=list(b"raw too"))
    after = generated(native, messages=[user("And words?")], session_id=raw["session"])["text"]
    _, _, resent = ask(client, [user("And words?"), assistant(after), user("Known?")], store=False)
    assert resent["known_messages"] == 0
    unstored = generated(native, messages=[user("Not kept?")], store=False)
    assert unstored["turn"] is None
    _, _, resent = ask(client, [user("Not kept?"), assistant(unstored["text"]), user("Known?")], store=False)
    assert resent["known_messages"] == 0
