"""The playground as somebody at a browser meets it: what is typed, clicked and seen."""

from __future__ import annotations

from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from support.serving import wait_for

# A tiny model on a busy machine.
PATIENCE_MS = 60_000
# Without a penalty this model only repeats the token it read last; it ends by itself where it pleases.
SAMPLING = {"Longest answer": "12", "Temperature": "0", "Repetition penalty": "5", "Seed": "7"}
# Longer than any test that has to meet it while it runs.
ENDLESS = SAMPLING | {"Longest answer": "30000"}


class Playground:
    """One tab. key: what it asks for first is answered with."""

    def __init__(self, page: Page, url: str, key: str) -> None:
        self.page = page
        self.url = url
        self.key = key
        page.set_default_timeout(PATIENCE_MS)
        self.log = page.get_by_role("log")
        self.turns = self.log.get_by_role("article")
        self.said = self.log.locator(".said")
        self.answers = self.log.locator(".answer")
        self.notice = page.locator("#notice")
        self.message = page.get_by_label("Message", exact=True)
        self.sessions = page.get_by_role("complementary", name="Sessions")
        self.memory = page.get_by_role("complementary", name="Memory")

    def come(self, fragment: str = "") -> None:
        """Open the page, and give the key that it asks for."""
        self.page.goto(f"{self.url}/{fragment}")
        self.give_key(self.key)
        expect(self.page.get_by_role("dialog")).to_be_hidden()

    def give_key(self, key: str) -> None:
        self.page.get_by_label("Key", exact=True).fill(key)
        self.button("Use it").click()

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def sample(self, values: dict[str, str] = SAMPLING) -> None:
        """Fill in sampling settings; every answer has its full length."""
        if not self.page.get_by_label("Temperature").is_visible():
            self.page.get_by_text("Sampling", exact=True).click()
        for label, value in values.items():
            self.page.get_by_label(label).fill(value)
        self.page.get_by_label("Go on where the model would end").check()

    def say(self, text: str) -> str:
        """Say it, and return its generation's id once the answer begins."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/v1/generate")) as answer:
            self.message.fill(text)
            self.message.press("Enter")
        return str(answer.value.headers["x-generation-id"])

    def ended(self) -> None:
        """Wait until what is drawn last is what the server has last, with nothing being answered."""
        # What is being answered has no turn yet.
        wait_for(
            lambda: self.turns.last.get_attribute("data-turn") == self.session()["head"] is not None,
            PATIENCE_MS / 1000,
        )
        expect(self.button("Stop")).to_be_hidden()
        expect(self.log).to_have_attribute("aria-busy", "false")

    def talk(self, text: str) -> str:
        """Say it, and return the whole answer as the server has it; it is what is shown."""
        generation = self.say(text)
        self.ended()
        answer = str(self.ask(f"/v1/generations/{generation}")["text"])
        self.shows(answer)
        return answer

    def shows(self, answer: str) -> None:
        """The last answer is exactly this."""
        assert self.answers.last.text_content() == f"Answer: {answer}"

    @property
    def id(self) -> str:
        """The session in the address."""
        return self.page.url.partition("#")[2]

    def session(self) -> dict[str, Any]:
        """What the server says of it."""
        return self.ask(f"/v1/sessions/{self.id}")

    def ask(self, path: str) -> dict[str, Any]:
        """Ask the server, beside the page."""
        answer = httpx.get(self.url + path, headers={"Authorization": f"Bearer {self.key}"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def fits(self) -> bool:
        """Whether nothing is to be scrolled to sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
