"""An inbox never loses that something was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.store.channels import Inbox


async def test_an_inbox_begins_with_a_look_at_the_store() -> None:
    assert Inbox().repair


async def test_messages_are_taken_in_order_once() -> None:
    inbox = Inbox()
    for message in (b"1", b"2"):
        inbox.put(message)
    assert await inbox.wait(0)
    assert inbox.take() == [b"1", b"2"]
    assert inbox.take() == []
    assert not await inbox.wait(0)


async def test_an_inbox_that_overflows_asks_for_repair_and_stays_bounded() -> None:
    inbox = Inbox()
    inbox.repair = False
    for i in range(5000):
        inbox.put(b"%d" % i)
    assert inbox.repair
    assert len(inbox.take()) <= 512


async def test_waiting_ends_with_a_message_or_a_look() -> None:
    inbox = Inbox()
    acts: list[Callable[[], None]] = [lambda: inbox.put(b"x"), inbox.look]
    for act in acts:
        waiting = asyncio.create_task(inbox.wait(None))
        await asyncio.sleep(0)
        assert not waiting.done()
        act()
        assert await waiting
        inbox.take()
