"""The page itself: files, keyboard, a phone, both themes, and a server that is not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from support.conversation import serving
from support.playground import Playground

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def test_a_session_is_exported_imported_and_deleted(playground: Playground, tmp_path: Path) -> None:
    playground.talk("one")
    original = playground.session()
    with playground.page.expect_download() as download:
        playground.button("Export").click()
    assert download.value.suggested_filename == f"{original['id']}.safetensors"
    download.value.save_as(file := tmp_path / "session.safetensors")
    playground.page.get_by_label("A session's file").set_input_files(file)
    expect(playground.notice).to_contain_text("Imported.")
    expect(playground.log).to_contain_text("the server keeps tokens, not text")
    assert (playground.id != original["id"], playground.session()["position"]) == (True, original["position"])
    playground.talk("two")

    imported = playground.id
    playground.button("Delete").click()
    dialog = playground.page.get_by_role("dialog")
    playground.button("Keep", dialog).click()
    expect(dialog).to_be_hidden()
    playground.button("Delete").click()
    playground.button("Delete", dialog).click()
    expect(playground.button("New")).to_be_focused()
    entries = playground.sessions.locator("[data-session]")
    expect(entries).to_have_count(1)
    assert imported not in playground.page.evaluate("JSON.stringify(localStorage)")
    playground.page.goto(f"{playground.url}/#{imported}")
    expect(playground.notice).to_have_text(re.compile("no session|expired or was deleted"))
    entries.first.click()
    expect(playground.said).to_have_text(["You: one"])


def test_a_phone_shows_one_part_at_a_time(playground: Playground) -> None:
    playground.talk("a word that is " + "very" * 60 + " long")
    playground.page.set_viewport_size({"width": 360, "height": 740})
    parts = {"Sessions": playground.sessions, "Memory": playground.memory, "Conversation": playground.log}
    for name, part in parts.items():
        playground.button(name).click()
        for other in parts.values():
            expect(other).to_be_visible() if other is part else expect(other).to_be_hidden()
        assert playground.fits(), name
    playground.button("Memory").click()
    playground.button("Try cleaning").click()
    expect(playground.button("Clean")).to_be_visible()
    assert playground.fits()
    playground.button("Sessions").click()
    playground.sessions.locator("[data-session]").first.click()
    expect(playground.message).to_be_visible()


def test_everything_has_a_name_and_the_keyboard_is_enough(playground: Playground) -> None:
    playground.message.press("Shift+Enter")
    expect(playground.message).to_have_value("\n")
    playground.talk("one")
    expect(playground.page.get_by_role("status")).to_have_text(re.compile("^Answer: "))
    controls = playground.page.locator("button, input, select, textarea, summary").all()
    for control in [one for one in controls if one.is_visible()]:
        expect(control).to_have_accessible_name(re.compile("."))
    playground.page.reload()
    playground.page.keyboard.press("Tab")
    expect(playground.page.get_by_role("link", name="Skip")).to_be_focused()
    playground.page.keyboard.press("Enter")
    expect(playground.message).to_be_focused()


def test_the_theme_is_the_system_s_until_it_is_chosen(playground: Playground) -> None:
    def ground() -> str:
        return str(playground.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    playground.page.emulate_media(color_scheme="light")
    light = ground()
    playground.page.emulate_media(color_scheme="dark")
    dark = ground()
    assert light != dark
    playground.button("Theme: auto").click()
    assert ground() == light
    playground.page.reload()
    playground.button("Theme: light").click()
    assert ground() == dark


def test_a_server_that_is_gone_is_told_and_found_again(
    context: BrowserContext, settings: dict[str, str], tab: Callable[[], Playground], tmp_path: Path
) -> None:
    """What was said meanwhile is said once when it is back, or can be taken back before."""
    with serving(tmp_path, **settings) as server:
        playground = Playground(context.new_page(), server.url, tab().key)
        playground.come()
        playground.sample()
        playground.talk("one")
        server.stop()
        playground.message.fill("two")
        playground.message.press("Enter")
        expect(playground.log).to_contain_text("Trying again")
        expect(playground.notice).to_contain_text("The server does not answer.")
        server.settings["port"] = server.url.rpartition(":")[2]
        server.start()
        playground.button("Try again").click()
        playground.ended()
        expect(playground.said).to_have_text(["You: one", "You: two"])
        assert playground.session()["turns"] == 2

        server.stop()
        playground.message.fill("three")
        playground.message.press("Enter")
        expect(playground.notice).to_contain_text("The server does not answer.")
        playground.button("Stop").click()
        expect(playground.message).to_have_value("three")
        expect(playground.said).to_have_text(["You: one", "You: two"])
