"""A worker process that is killed: how soon its turns are in another's hands."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress

import pytest

from server.store import keys as ids
from server.store.records import Delivery
from server.store.store import Store
from server.worker.beat import Heartbeat
from server.worker.claims import Claims

# A worker without an engine: it takes what it gets, says that it lives, and never ends a turn.
VICTIM = """
import asyncio, sys
from server.store.store import StoreOptions, open_store
from server.worker.beat import Heartbeat
from server.worker.claims import Claims

async def main(url, prefix, slots):
    options = StoreOptions(url, prefix=prefix)
    store = await open_store(options)
    claims = Claims(store.queue, "victim", slots, lambda _: None, takeover_s=3.0, poll_s=1.0)
    beat = Heartbeat(options, "victim", dict, lambda: claims.held, lambda: True)
    beat.start()
    await claims.run(lambda: None)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_a_killed_workers_turns_are_anothers_within_five_seconds(
    store: Store, record_property: pytest.RecordProperty
) -> None:
    options = store.context.options
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, options.url, options.prefix, "4")
    taken: asyncio.Queue[tuple[Delivery, float]] = asyncio.Queue()
    heir = Claims(
        store.queue,
        "heir",
        8,
        lambda delivery: taken.put_nowait((delivery, time.monotonic())),
        takeover_s=3.0,
        poll_s=1.0,
    )
    beat = Heartbeat(options, "heir", dict, lambda: heir.held, lambda: True)
    try:
        async with asyncio.timeout(60):
            while not await store.queue.live_workers():
                await asyncio.sleep(0.01)
        # Four in its hands, two that wait before it.
        names = {ids.new_generation_id(ids.new_session_id()[5:25]) for _ in range(6)}
        for name in names:
            await store.queue.enqueue(name, "victim")
        async with asyncio.timeout(60):
            while await store.queue.depth() > 2:
                await asyncio.sleep(0.01)
        beat.start()
        working = asyncio.create_task(heir.run(lambda: None))
        async with asyncio.timeout(20):
            stolen = [await taken.get() for _ in range(2)]
        with pytest.raises(TimeoutError):  # what a live worker renews stays its own
            await asyncio.wait_for(taken.get(), 3.5)
        victim.send_signal(signal.SIGKILL)
        began = time.monotonic()
        async with asyncio.timeout(20):
            inherited = [await taken.get() for _ in range(4)]
    finally:
        with suppress(ProcessLookupError):
            victim.kill()
        await victim.wait()
        await asyncio.to_thread(beat.stop)
        working.cancel()
    assert {d.generation for d, _ in (*stolen, *inherited)} == names
    assert [d.count for d, _ in stolen] == [1, 1]
    assert [d.count for d, _ in inherited] == [2, 2, 2, 2]
    took = max(at for _, at in inherited) - began
    record_property("takeover_s", round(took, 2))
    assert took < 5.0
    # Nothing of the dead one is left, once its last turn has ended.
    for delivery, _ in (*stolen, *inherited):
        await heir.release(delivery.generation)
    await store.queue.takeover("next", 0)
    assert await store.context.connection.call("EXISTS", store.context.keys.stream("victim")) == 0
