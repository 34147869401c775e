"""A session that leaves as a file and comes back goes on as if it had stayed."""

from __future__ import annotations

import httpx
import pytest

from support.conversation import Serve, generate

pytestmark = pytest.mark.timeout(300)

RUN = {"max_tokens": 20, "temperature": 0.8, "ignore_eos": True}
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize("turns", [1, 4])
def test_exported_deleted_imported_and_continued_it_is_equal(server: Serve, turns: int) -> None:
    """Before its first snapshot (24 tokens) and long after, past the window of 32."""
    stayed: dict[str, str] = {}
    left: dict[str, str] = {}
    for i in range(turns):
        for held in (stayed, left):
            answer = generate(server.url, prompt=f"turn {i}", seed=70 + i, **RUN, **held)
            held["session_id"] = answer.start["session"]
    path = f"{server.url}/v1/sessions/{left['session_id']}"
    exported = httpx.get(f"{path}/export", timeout=30)
    assert exported.status_code == 200
    assert httpx.delete(path).status_code == 200
    imported = httpx.post(f"{server.url}/v1/sessions/import", content=exported.content, headers=OCTETS, timeout=30)
    assert imported.status_code == 201, imported.text
    back = imported.json()
    assert (back["tier"], back["turns"]) == ("redis", turns)
    expected = generate(server.url, prompt="and on", seed=90, **RUN, **stayed)
    moved = generate(server.url, prompt="and on", seed=90, session_id=back["id"], **RUN)
    assert moved.token_ids == expected.token_ids
    assert moved.start["restored"]["from"] == "redis"
    # A rewound one too: its snapshots have come along with it.
    rewound = httpx.post(f"{server.url}/v1/sessions/{back['id']}/rewind", json={"turns": 1})
    assert rewound.status_code == 200
    again = generate(server.url, prompt="and on", seed=90, session_id=back["id"], **RUN)
    assert again.token_ids == expected.token_ids
