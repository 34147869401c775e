"""What everybody meets: the page, its key, one answer and the memory after it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from support.playground import Playground

pytestmark = pytest.mark.timeout(300)


def test_a_message_is_answered_and_the_memory_drawn(playground: Playground) -> None:
    said = "<img src=x onerror=alert(1)> What is <b>bold</b>?"
    playground.talk(said)
    assert playground.said.text_content() == f"You: {said}"
    assert playground.log.locator("img, b").count() == 0
    expect(playground.log).not_to_contain_text("null")
    session = playground.session()
    expect(playground.memory).to_contain_text(f"As of position {session['position']}.")
    memory = playground.ask(f"/v1/sessions/{playground.id}/memory")
    layers = sorted({matrix["layer"] for matrix in memory["matrices"]})
    for layer in layers:
        expect(playground.memory.get_by_role("img", name=re.compile(f"values of layer {layer},"))).to_be_visible()
    gates = [f"{gate:.2f}" for matrix in memory["matrices"] if matrix["layer"] == layers[0] for gate in matrix["gates"]]
    sentence = playground.memory.get_by_role("img", name=re.compile("^Read gates")).get_attribute("aria-label") or ""
    assert f"layer {layers[0]}: {' '.join(gates)}" in sentence
    expect(playground.memory.get_by_role("img", name=re.compile("^Norm of the memory"))).to_be_visible()
    expect(playground.sessions.get_by_role("button", name=re.compile("What is"))).to_have_attribute(
        "aria-current", "true"
    )


def test_a_wrong_key_is_told_and_a_right_one_goes_on(tab: Callable[[], Playground]) -> None:
    playground = tab()
    playground.page.goto(playground.url)
    dialog = playground.page.get_by_role("dialog", name="API key")
    expect(dialog).to_contain_text("This server asks for an API key.")
    playground.give_key("wrong")
    expect(dialog).to_contain_text("This API key is not known.")
    playground.give_key(playground.key)
    expect(dialog).to_be_hidden()
    expect(playground.notice).to_be_empty()
    expect(playground.sessions).to_contain_text("None yet.")
    kept = playground.page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert [playground.key in text for text in kept] == [False, True]
