"""Holding a conversation: stopping, asking again, branching, leaving and coming back, being in two places."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from support.playground import ENDLESS, SAMPLING, Playground

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def begun(playground: Playground, text: str) -> str:
    """Say it to an endless answer, and return its generation once some of it is shown."""
    playground.sample(ENDLESS)
    generation = playground.say(text)
    expect(playground.answers.last).to_have_text(re.compile("Answer: .{20}", re.DOTALL))
    return generation


def test_a_stopped_answer_is_kept_as_far_as_it_came_and_can_be_asked_for_again(playground: Playground) -> None:
    first = begun(playground, "one")
    playground.page.keyboard.press("Escape")
    playground.ended()
    stopped = playground.ask(f"/v1/generations/{first}")
    assert (stopped["status"], stopped["turn"]) == ("cancelled", playground.session()["head"])
    playground.shows(stopped["text"])
    expect(playground.turns.last).to_contain_text("stopped")

    playground.sample(SAMPLING)
    with playground.page.expect_response(lambda answer: answer.url.endswith("/v1/generate")) as answer:
        playground.button("Regenerate").click()
    playground.ended()
    again = playground.ask(f"/v1/generations/{answer.value.headers['x-generation-id']}")
    assert (again["finish_reason"], playground.session()["turns"]) == ("length", 1)
    assert stopped["text"].startswith(again["text"])  # its seed and all else but the length are the same
    playground.shows(again["text"])
    expect(playground.said).to_have_text(["You: one"])


def test_a_session_is_forked_at_a_turn_and_rewound(playground: Playground) -> None:
    for text in ("one", "two", "three"):
        playground.talk(text)
    whole, turns = playground.id, playground.ask(f"/v1/sessions/{playground.id}/turns")["data"][::-1]
    playground.button("Fork here", playground.turns.nth(1)).click()
    expect(playground.notice).to_contain_text("This is the fork.")
    expect(playground.said).to_have_text(["You: one", "You: two"])
    fork = playground.session()
    assert (fork["origin"], fork["head"]) == ({"session": whole, "turn": turns[1]["id"]}, turns[1]["id"])
    playground.talk("another three")

    playground.page.go_back()
    expect(playground.said).to_have_text(["You: one", "You: two", "You: three"])
    playground.button("Rewind to here", playground.turns.nth(0)).click()
    expect(playground.said).to_have_text(["You: one"])
    assert (playground.id, playground.session()["head"]) == (whole, turns[0]["id"])
    playground.button("Rewind").click()
    expect(playground.log).to_have_text("Nothing has been said yet.")
    assert playground.session()["position"] == 0
    playground.talk("one, again")
    expect(playground.said).to_have_text(["You: one, again"])

    playground.page.go_forward()
    expect(playground.said).to_have_text(["You: one", "You: two", "You: another three"])


def test_a_page_that_is_loaded_again_in_mid_stream_goes_on(playground: Playground) -> None:
    generation = begun(playground, "one")
    with playground.page.expect_request(re.compile(f"/v1/generations/{generation}/events")) as followed:
        playground.page.reload()
    assert re.search(r"\?after=\d+-0$", followed.value.url)
    expect(playground.said).to_have_text(["You: one"])
    seen = len(playground.answers.last.text_content() or "")
    playground.page.wait_for_function(
        "seen => document.querySelector('#log .answer').textContent.length > seen", arg=seen + 20
    )
    playground.button("Stop").click()
    playground.ended()
    playground.shows(playground.ask(f"/v1/generations/{generation}")["text"])
    playground.page.reload()
    playground.ended()
    playground.shows(playground.ask(f"/v1/generations/{generation}")["text"])


def test_an_answer_that_ended_while_nobody_looked_is_found(playground: Playground) -> None:
    generation = begun(playground, "one")
    session = playground.id
    playground.button("New").click()
    expect(playground.log).to_be_empty()
    expect(playground.message).to_be_focused()
    path, headers = f"/v1/generations/{generation}", {"Authorization": f"Bearer {playground.key}"}
    assert playground.page.request.delete(playground.url + path, headers=headers).ok
    playground.sessions.get_by_role("button", name=re.compile(session[:16])).click()
    playground.ended()
    playground.shows(playground.ask(f"/v1/generations/{generation}")["text"])
    expect(playground.said).to_have_text(["You: one"])


def test_another_tab_is_told_that_the_session_is_busy_and_can_follow(
    playground: Playground, tab: Callable[[], Playground]
) -> None:
    playground.talk("one")
    other = tab()
    other.come(f"#{playground.id}")
    other.sample()
    expect(other.said).to_have_text(["You: one"])
    generation = begun(playground, "two")
    other.message.fill("three")
    other.message.press("Enter")
    expect(other.notice).to_contain_text("This session is busy")
    expect(other.message).to_have_value("three")
    other.button("Follow it").click()
    expect(other.answers.last).to_have_text(re.compile("Answer: .{20}", re.DOTALL))
    other.button("Stop").click()
    for one in (other, playground):
        one.ended()
        one.shows(playground.ask(f"/v1/generations/{generation}")["text"])


def test_a_conversation_that_moved_on_elsewhere_is_shown_before_it_is_continued(
    playground: Playground, tab: Callable[[], Playground]
) -> None:
    playground.talk("one")
    other = tab()
    other.come(f"#{playground.id}")
    other.sample()
    expect(other.said).to_have_text(["You: one"])
    playground.talk("two")
    other.message.fill("three")
    other.message.press("Enter")
    expect(other.notice).to_contain_text("head is")
    expect(other.said).to_have_text(["You: one", "You: two"])
    other.talk("three")
    assert playground.session()["turns"] == 3


def test_what_left_the_window_is_said(playground: Playground) -> None:
    playground.page.get_by_label("System message").fill("Be brief.")
    playground.talk("one")
    assert playground.log.locator(".system").text_content() == "System: Be brief."
    expect(playground.memory).not_to_contain_text("The beginning has left the window.")
    playground.talk("two " * 20)
    start = playground.session()["window_start"]
    assert start > 0
    expect(playground.memory).to_contain_text("The beginning has left the window.")
    expect(playground.log).to_contain_text(f"in the turn below, at position {start}")
