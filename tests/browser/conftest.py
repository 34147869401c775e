"""A server with keys on a tiny model, and a real Chromium before it. A page that reports a fault fails its test."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support.checkpoint import tiny_checkpoint
from support.conversation import Serve, serving
from support.playground import PATIENCE_MS, Playground

KEYS = 64
SETTINGS = {"slots": "4", "sliding_window": "64", "threads": "1", "batch_invariant": "true"}


def key_of(number: int) -> str:
    return f"key-of-visitor-{number}"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a server on a tiny model; as many tenants as there are keys."""
    hashes = [f"v{i}:{hashlib.sha256(key_of(i).encode()).hexdigest()}" for i in range(KEYS)]
    model = tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return SETTINGS | {"model": str(model), "api_keys": ",".join(hashes)}


@pytest.fixture(scope="session")
def server(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("browser"), **settings) as one:
        yield one


@pytest.fixture(scope="session")
def visitors() -> Iterator[int]:
    """A tenant of its own for whoever asks, so that nobody's list has another one's sessions."""
    return iter(range(KEYS))


# Of a module: while it is there, no asynchronous test can run.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("These tests need Chromium; on Debian: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What the pages reported: exceptions, and refusals of their policy. A test may take out what it provoked."""
    return []


@pytest.fixture
def context(chromium: Browser, faults: list[str]) -> Iterator[BrowserContext]:
    """Tabs that share what the browser keeps."""
    with chromium.new_context(viewport={"width": 1360, "height": 860}) as one:

        def watch(page: Page) -> None:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", heard)

        def heard(message: Any) -> None:
            # The browser says of every refused request that it was; what the page makes of it is the test's business.
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                faults.append(message.text)

        one.on("page", watch)
        yield one
    assert faults == []


@pytest.fixture
def tab(context: BrowserContext, visitors: Iterator[int], server: Serve) -> Callable[[], Playground]:
    """Opens one more tab of one visitor."""
    key = key_of(next(visitors))
    return lambda: Playground(context.new_page(), server.url, key)


@pytest.fixture
def playground(tab: Callable[[], Playground]) -> Playground:
    """A tab that has come in, with short answers."""
    one = tab()
    one.come()
    one.sample()
    return one
