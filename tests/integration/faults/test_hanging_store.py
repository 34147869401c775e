"""The store is stopped in mid-stream, not killed: connections stay open and nothing is answered until it goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from support.conversation import generate
from support.fleet import PATIENCE_S, Fleet, Listener, unbroken
from support.oracle import Oracle
from support.serving import wait_for

pytestmark = pytest.mark.timeout(300)

LONG = {"max_tokens": 1000, "ignore_eos": True, "temperature": 0.8}
# In front of what is promised (docs/operating.md: about 5 s), what a loaded machine adds to it.
NOTICED_S, LOADED_S = 5.0, 3.0

Record = Callable[[str, object], None]


@contextmanager
def stopped(pid: int | None) -> Iterator[float]:
    """While the block runs, that process does nothing. Gives when it began, monotonic s."""
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        process.send_signal(signal.SIGCONT)


def refusal(url: str) -> float:
    """Asks for a turn, which has to be refused as the store is away; how long that took, s."""
    began = time.monotonic()
    refused = httpx.post(f"{url}/v1/generate", json={"prompt": "new", "max_tokens": 2}, timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable"), refused.text
    assert int(refused.headers["retry-after"]) >= 1
    return time.monotonic() - began


@pytest.mark.full
def test_a_store_that_hangs_is_noticed_and_streams_go_on_after_it(
    empty_fleet: Fleet, oracle: Oracle, record_property: Record
) -> None:
    empty_fleet.worker()
    url, api = empty_fleet.api(ping_s="0.5")
    found = [Listener(url, prompt=f"stream {i}", seed=i, **LONG) for i in range(2)]
    with httpx.Client(timeout=PATIENCE_S) as client, httpx.Client(base_url=url, timeout=PATIENCE_S) as prober:
        asked = {"prompt": "stream 2", "seed": 2, **LONG}
        with client.stream("POST", f"{url}/v1/generate", json=asked) as response:
            lines = response.iter_lines()
            while not next(lines).startswith("id: 5-"):
                pass
            for one in found:
                one.heard(5)
            assert prober.get("/health/ready").status_code == 200
            with stopped(empty_fleet.valkey.pid) as began:
                first = refusal(url)  # it was on its way into the store when that fell silent
                wait_for(lambda: prober.get("/health/ready").status_code == 503, PATIENCE_S)
                noticed = time.monotonic() - began
                later = refusal(url)
                assert "perennial_store_up 0.0" in prober.get("/metrics").text
                while next(lines) != ": ping":
                    pass
                assert all(one.is_alive() for one in found)
            resumed = time.monotonic()
            *_, last = (line for line in lines if line.startswith("event: "))
            assert last == "event: done"
    record_property("seconds_to_refuse_and_to_notice", (round(first, 2), round(noticed, 2), round(later, 2)))
    assert first < NOTICED_S + LOADED_S
    assert noticed < NOTICED_S + LOADED_S
    assert later < LOADED_S, "known to be away: refused at once"
    for i, one in enumerate(found):
        answer = one.whole()
        assert answer.token_ids == oracle.next(f"stream {i}".encode(), seed=i, count=LONG["max_tokens"])
        assert unbroken(answer.event_ids)
        silence = next(at for at in one.at if at > resumed) - resumed
        assert silence < LOADED_S + 2
    wait_for(lambda: httpx.get(f"{url}/health/ready").status_code == 200, PATIENCE_S)
    assert len(generate(url, prompt="and on", ignore_eos=True, max_tokens=4).token_ids) == 4
    assert "Traceback" not in api.errors()
