"""Operations on a session's memory over HTTP, on the whole server: what they change, and that a rewind undoes them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from redis import Redis

from server.store import keys as ids
from server.store.embedded import EmbeddedValkey
from support.conversation import Serve, generate, serving, stream
from support.memory_play import TEXT, ask, goes_on, head, rewind, told
from support.serving import wait_for

pytestmark = pytest.mark.timeout(300)


def test_a_look_tells_every_matrix_and_leaves_nothing(server: Serve) -> None:
    session = told(server)
    before = server.session(session)
    looked = ask(server, session)
    assert looked["turn"] == before["head"]
    assert looked["position"] == before["position"]
    assert looked["frozen"] is False
    assert [(m["layer"], m["memory"], m["head"]) for m in looked["matrices"]] == [
        (layer, 0, head) for layer in (1, 3) for head in (0, 1)
    ]
    for matrix in looked["matrices"]:
        values = matrix["singular_values"]
        assert len(values) == 16
        assert values == sorted(values, reverse=True)
        assert sum(value**2 for value in values) == pytest.approx(matrix["norm"] ** 2, rel=1e-4)
        assert 1 <= matrix["effective_rank"] <= matrix["rank"] == 16
        assert matrix["norm_z"] > 0
        assert len(matrix["gates"]) == 2
        assert all(0 < gate < 1 for gate in matrix["gates"])
        assert matrix["writes"] == (before["position"] - 1) // 8
    assert ask(server, session) == looked | {"restored": looked["restored"]}
    after = server.session(session)
    same = ("head", "position", "turns", "stored_bytes", "running")
    assert [after[name] for name in same] == [before[name] for name in same]


def test_a_dry_run_says_what_a_cleaning_does_and_a_rewind_undoes_it(server: Serve) -> None:
    session = told(server)
    turn, expected = head(server, session), goes_on(server, session)
    cut = {"energy_threshold": 0.5, "drop_top": 1}
    dry = ask(server, session, "svd-clean", cut | {"dry_run": True})
    assert dry["turn"] is None
    assert head(server, session) == turn
    assert goes_on(server, session) == expected

    done = ask(server, session, "svd-clean", cut)
    assert done["turn"] == head(server, session) != turn
    figures = ("matrices", "shift", "energy_threshold", "drop_top", "max_rank")
    assert {name: done[name] for name in figures if name in done} == {n: dry[n] for n in figures if n in dry}
    assert done["shift"]["kl"] > 0
    looked = ask(server, session)
    for before, after in zip(done["matrices"], looked["matrices"], strict=True):
        assert after["rank"] == before["retained_rank"] < before["rank"] == 16
        assert after["norm"] == pytest.approx(before["norm_after"], rel=1e-4)
        assert before["energy_retained"] == pytest.approx((after["norm"] / before["norm"]) ** 2, rel=1e-3)
        kept = before["singular_values"][1 : 1 + before["retained_rank"]]
        assert after["singular_values"][: len(kept)] == pytest.approx(kept, rel=1e-3)
        assert after["writes"] == 0
    assert goes_on(server, session) != expected

    turns = httpx.get(f"{server.url}/v1/sessions/{session}/turns").json()["data"]
    assert [one["operation"] for one in turns] == ["svd-clean", None]
    assert turns[0]["tokens"] == 0
    rewind(server, session, to_turn=turn)
    assert goes_on(server, session) == expected


@pytest.mark.parametrize("scope", ["memory", "window", "all"])
def test_a_reset_empties_its_scope_and_a_rewind_undoes_it(server: Serve, scope: str) -> None:
    session = told(server)
    turn, position, expected = head(server, session), server.session(session)["position"], goes_on(server, session)
    done = ask(server, session, "reset", {"scope": scope})
    assert done["position"] == position
    assert done["scope"] == scope
    looked = ask(server, session)
    empty = [matrix["norm"] == 0 for matrix in looked["matrices"]]
    assert empty == [scope != "window"] * 4
    after = goes_on(server, session)
    assert after != expected
    if scope == "all":
        # Only the pending token is left of it, and nothing says where it stands.
        last = generate(server.url, input_ids=[*b"x"], max_tokens=1, temperature=0)  # any session's beginning
        assert last.done["position"] == 2
        fresh = told(server)
        ask(server, fresh, "reset", {"scope": "all"})
        assert goes_on(server, fresh) == after
    rewind(server, session, to_turn=turn)
    assert goes_on(server, session) == expected
    assert not any(matrix["norm"] == 0 for matrix in ask(server, session)["matrices"])


def test_a_frozen_memory_is_read_and_not_written_until_it_is_unfrozen(server: Serve) -> None:
    session = told(server)
    turn, expected = head(server, session), goes_on(server, session)
    assert ask(server, session, "freeze")["frozen"] is True
    before = ask(server, session)
    assert before["frozen"] is True
    assert goes_on(server, session)[0] == expected[0]  # nothing was to be written yet
    generate(server.url, session_id=session, prompt=TEXT, max_tokens=2, temperature=0)
    frozen = ask(server, session)
    assert frozen["matrices"] == before["matrices"]
    assert frozen["position"] > before["position"]
    assert ask(server, session, "unfreeze")["frozen"] is False
    generate(server.url, session_id=session, prompt=TEXT, max_tokens=2, temperature=0)
    written = ask(server, session)["matrices"]
    assert all(a["norm"] != b["norm"] for a, b in zip(written, before["matrices"], strict=True))
    # Two turns of the conversation back: what was done between goes with them.
    rewind(server, session, turns=2)
    assert ask(server, session)["frozen"] is True
    rewind(server, session, to_turn=turn)
    assert ask(server, session)["frozen"] is False
    assert goes_on(server, session) == expected


def test_a_busy_session_is_looked_at_as_it_was_and_changed_when_it_is_idle(server: Serve) -> None:
    session = told(server)
    looked = ask(server, session)
    running = stream(server.url, session_id=session, prompt="x", max_tokens=3000, temperature=0, ignore_eos=True)
    next(event for event in running if event[0] == "token")
    assert ask(server, session)["matrices"] == looked["matrices"]
    url = f"{server.url}/v1/sessions/{session}/memory/freeze"
    refused = httpx.post(url)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "session_busy"
    done = httpx.post(url, json={"wait_s": 60}, timeout=90)
    assert done.status_code == 200, done.text
    *_, (kind, last, _) = running
    assert kind == "done"
    assert done.json()["position"] == last["position"]


def test_what_can_not_be_done_is_refused_by_name(server: Serve) -> None:
    session = told(server)
    url = f"{server.url}/v1/sessions/{session}/memory"
    for path, body, status, code, param in (
        ("reset", {"scope": "memory", "layers": [0]}, 400, "invalid_request", "layers"),
        ("reset", {"scope": "window", "layers": [1]}, 400, "invalid_request", "layers"),
        ("reset", {}, 400, "invalid_request", "scope"),
        ("svd-clean", {"energy_threshold": 0}, 400, "invalid_request", "energy_threshold"),
        ("svd-clean", {"max_rank": 0}, 400, "invalid_request", "max_rank"),
        ("svd-clean", {"rank": 3}, 400, "unknown_parameter", "rank"),
        ("freeze", {"if_turn": "turn_0123456789abcdefghij_0123456789ab"}, 409, "turn_mismatch", "if_turn"),
    ):
        answer = httpx.post(f"{url}/{path}", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    empty = httpx.post(f"{server.url}/v1/sessions").json()["id"]
    answer = httpx.get(f"{server.url}/v1/sessions/{empty}/memory")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "empty_session")
    assert server.session(session)["running"] is None
    assert server.session(session)["turns"] == 1


def test_an_operation_whose_state_is_lost_is_done_again(
    valkey: EmbeddedValkey, settings: dict[str, str], tmp_path: Path
) -> None:
    """Two operations with a turn between; every snapshot vanishes from the store, and the worker with its memory."""
    own = settings | {"key_prefix": "settled"}
    with serving(tmp_path, **own) as server:
        session = told(server)
        ask(server, session, "svd-clean", {"energy_threshold": 0.6})
        generate(server.url, session_id=session, prompt=TEXT, max_tokens=3, temperature=0, ignore_eos=True)
        ask(server, session, "svd-clean", {"energy_threshold": 1, "drop_top": 2})
        expected, looked = goes_on(server, session), ask(server, session)
        server.kill()
    with Redis.from_url(valkey.url) as store:
        name = next(key for key in store.keys("settled*") if key.endswith(b"snaps"))
        assert ids.lineage_of(session).encode() in name
        wait_for(lambda: store.hlen(name) >= 2)
        store.delete(name)
    with serving(tmp_path, **own) as server:
        again = ask(server, session)
        assert again["matrices"] == looked["matrices"]
        assert again["restored"]["from"] == "redis"
        assert goes_on(server, session) == expected
    assert "operation done again" in server.process.errors()


def test_an_export_takes_operations_along(server: Serve) -> None:
    session = told(server)
    turn = head(server, session)
    ask(server, session, "svd-clean", {"energy_threshold": 0.5, "layers": [3]})
    ask(server, session, "freeze")
    url = f"{server.url}/v1/sessions"
    file = httpx.get(f"{url}/{session}/export").content
    answer = httpx.post(f"{url}/import", content=file, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 201, answer.text
    copy = answer.json()["id"]
    assert ask(server, copy)["matrices"] == ask(server, session)["matrices"]
    assert goes_on(server, copy) == goes_on(server, session)
    turns = httpx.get(f"{url}/{copy}/turns").json()["data"]
    assert [one["operation"] for one in turns] == ["freeze", "svd-clean", None]
    rewind(server, copy, to_turn=turns[-1]["id"])
    rewind(server, session, to_turn=turn)
    assert goes_on(server, copy) == goes_on(server, session)


def test_a_history_that_is_resent_goes_on_after_the_operation(server: Serve) -> None:
    url, asked = f"{server.url}/v1/chat/completions", {"role": "user", "content": "What is it?"}
    name = httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"]
    more = {"model": name, "max_tokens": 8, "temperature": 0}
    first = httpx.post(url, json={"messages": [asked], **more}, timeout=60).json()
    session = first["perennial"]["session_id"]
    turn = head(server, session)
    cleaned = ask(server, session, "svd-clean", {"energy_threshold": 0.3})
    history = [asked, first["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    second = httpx.post(url, json={"messages": history, **more}, timeout=60).json()
    assert second["perennial"]["session_id"] == session
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    turns = httpx.get(f"{server.url}/v1/sessions/{session}/turns").json()["data"]
    assert [one["id"] for one in turns[1:]] == [cleaned["turn"], turn]
    # Undone, the same history goes on from before it, in the same session.
    rewind(server, session, to_turn=turn)
    third = httpx.post(url, json={"messages": history, **more}, timeout=60).json()
    assert third["perennial"]["session_id"] == session
    turns = httpx.get(f"{server.url}/v1/sessions/{session}/turns").json()["data"]
    assert [one["id"] for one in turns[1:]] == [turn]
