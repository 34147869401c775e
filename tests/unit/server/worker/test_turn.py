"""A running turn: events, the write-ahead log, the committed run, and a takeover at every point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizer import Tokenizer, load_tokenizer
from server.engine.request import Finish, Finished, Timings, Token
from server.store.keys import new_generation_id, new_session_id
from server.store.records import Begun, End, Event, Fence, Generation, Session, Status, TurnRequest
from server.worker.tiers import Restored
from server.worker.turn import Ending, RunningTurn

TEXT = "Once upon a time, a café — 日本語 🙂 — stood at the end."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("smollm2-135m", None)


def begun(request: TurnRequest, emitted: tuple[Event, ...] = ()) -> Begun:
    sid = new_session_id()
    session = Session(
        id=sid,
        tenant="t",
        model="m",
        fingerprint="f",
        head="turn_" + sid.split("_")[1] + "_000000000000",
        length=7,
        end=End.EOS,
        created=0.0,
        updated=0.0,
        expires=9e9,
        running=None,
        state_bytes=1,
        stored_bytes=1,
        turns=1,
        kept=1,
    )
    gid = new_generation_id(sid.split("_")[1])
    generation = Generation(gid, sid, "t", Status.RUNNING, request, False, None, 100.0, 100.0)
    return Begun(generation, request, session, Fence("1-x"), emitted)


def request(**changes: Any) -> TurnRequest:
    base = TurnRequest(input_ids=(11, 12), max_tokens=500, sampling={"temperature": 1.0, "seed": 5})
    return replace(base, **changes)


class Engine:
    """Plays the engine's part: asks the watch about each token, then reports it, as the engine does."""

    def __init__(self, turn: RunningTurn, script: list[int], max_tokens: int) -> None:
        self.turn, self.script, self.max_tokens = turn, script, max_tokens

    def run(self, steps: int | None = None) -> tuple[list[Event], Ending | None]:
        turn = self.turn
        asked = turn.request(Restored("slot", (10,), 0, warm="w"))
        events = [e for e in (turn.start(),) if e]
        generated = list(asked.forced)
        for token in self.script[len(generated) :][:steps]:
            generated.append(token)
            ended = token in asked.stop_ids
            assert asked.watch is not None
            stopped = not ended and asked.watch.push(token)
            turn.push(Token(turn.id, 0, token, -0.5 if asked.sampling.logprobs is not None else None, ()))
            reason = Finish.eos if ended else Finish.stop if stopped else None
            if reason is None and len(generated) == self.max_tokens:
                reason = Finish.length
            if reason is not None:
                last, ending = turn.finish(
                    Finished(turn.id, reason, tuple(generated), 3, True, None, Timings(0.1, 0.2, 0.3))
                )
                return events + last, ending
            if (event := turn.event()) is not None:
                events.append(event)
        return events, None


def text(events: list[Event]) -> str:
    return "".join(e.data["text"] for e in events if e.type == "token")


def ids(events: list[Event]) -> list[int]:
    return [t for e in events if e.type == "token" for t in e.data["token_ids"]]


def clock() -> float:
    return 101.0


def test_ends_by_the_end_token(tokenizer: Tokenizer) -> None:
    run = tokenizer.encode(TEXT, specials=False)
    (eos,) = {2} & tokenizer.eos_ids
    turn = RunningTurn(begun(request()), tokenizer, clock)
    events, ending = Engine(turn, [*run, eos], 500).run()
    assert text(events) == TEXT
    assert ids(events) == run
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert ending is not None
    assert ending.turn is not None
    assert ending.turn.tokens == (11, 12, *run, eos)
    assert ending.turn.end is End.EOS
    assert ending.turn.length == 7 + 2 + len(run) + 1
    assert ending.turn.parent == turn.begun.session.head
    assert ending.warm
    assert ending.final.type == "done"
    assert ending.final.data["finish_reason"] == "eos"
    assert ending.final.data["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": len(run) + 1,
        "total_tokens": len(run) + 3,
        "cached_tokens": 6,
    }


def test_another_end_token_is_committed_as_the_templates_own(tokenizer: Tokenizer) -> None:
    """SmolLM2 may also end by <|endoftext|>; what the template closes a message with is <|im_end|>."""
    assert tokenizer.chat is not None
    other = next(iter(tokenizer.eos_ids - {tokenizer.chat.end_id}))
    _, chat = Engine(RunningTurn(begun(request()), tokenizer, clock), [100, other], 500).run()
    _, raw = Engine(RunningTurn(begun(request(raw=True)), tokenizer, clock), [100, other], 500).run()
    assert chat is not None
    assert chat.turn is not None
    assert chat.turn.tokens[-1] == tokenizer.chat.end_id
    assert raw is not None
    assert raw.turn is not None
    assert raw.turn.tokens[-1] == other


def test_ends_by_length_with_half_a_character(tokenizer: Tokenizer) -> None:
    run = tokenizer.encode("🙂", specials=False)[:-1]
    turn = RunningTurn(begun(request(max_tokens=len(run))), tokenizer, clock)
    events, ending = Engine(turn, run, len(run)).run()
    assert text(events) == tokenizer.decode(run)
    assert ids(events) == run
    assert ending is not None
    assert ending.turn is not None
    assert ending.turn.end is End.OPEN
    assert ending.turn.tokens[-len(run) :] == tuple(run)


@pytest.mark.parametrize("stop", ["time", "tim", " a caf", "日", "本語", "nowhere", "e end.", "O"])
def test_a_stop_string_cuts_the_committed_run_where_the_text_ends(tokenizer: Tokenizer, stop: str) -> None:
    run = tokenizer.encode(TEXT, specials=False)
    turn = RunningTurn(begun(request(stop=(stop,))), tokenizer, clock)
    events, ending = Engine(turn, run, len(run)).run()
    at = TEXT.find(stop)
    visible = TEXT if at < 0 else TEXT[:at]
    assert text(events) == visible
    assert ending is not None
    assert ending.turn is not None
    assert tokenizer.decode(ending.turn.tokens[2:]) == visible
    assert ending.turn.end is End.OPEN
    assert ending.warm is (at < 0)
    assert ending.result.finish_reason == ("length" if at < 0 else "stop")


def test_raw_and_unstored_and_cancelled_turns(tokenizer: Tokenizer) -> None:
    run = tokenizer.encode(TEXT, specials=False)
    _, raw = Engine(RunningTurn(begun(request(raw=True)), tokenizer, clock), run, len(run)).run()
    assert raw is not None
    assert raw.turn is not None
    assert raw.turn.end is End.RAW
    _, unstored = Engine(RunningTurn(begun(request(store=False)), tokenizer, clock), run, len(run)).run()
    assert unstored is not None
    assert unstored.turn is None
    assert not unstored.warm
    turn = RunningTurn(begun(request()), tokenizer, clock)
    turn.request(Restored("new", (), 0))
    timings = Timings(None, None, 0.0)
    _, early = turn.finish(Finished(turn.id, Finish.cancelled, (), 0, False, None, timings))
    assert early.turn is None
    assert early.final.data["finish_reason"] == "cancelled"


def test_ignore_eos_bans_the_end_tokens(tokenizer: Tokenizer) -> None:
    turn = RunningTurn(begun(request(ignore_eos=True, stop_token_ids=(77,))), tokenizer, clock)
    asked = turn.request(Restored("new", (), 0))
    assert asked.stop_ids == {77}
    assert set(asked.sampling.banned) == tokenizer.eos_ids


def test_logit_bias_keys_come_back_as_numbers(tokenizer: Tokenizer) -> None:
    turn = RunningTurn(begun(request(sampling={"seed": 1, "logit_bias": {"5": 2.5}})), tokenizer, clock)
    assert turn.request(Restored("new", (), 0)).sampling.logit_bias == {5: 2.5}


@settings(max_examples=60)
@given(data=st.data())
def test_a_takeover_at_any_token_shows_each_character_once(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """A worker dies after any number of ticks; another goes on from the events alone."""
    run = tokenizer.encode(TEXT, specials=False)
    stop = data.draw(st.sampled_from([(), ("end",), ("語 🙂",), ("stoo!", "a caf\u00e9 —")]))
    undisturbed, expected = Engine(RunningTurn(begun(request(stop=stop)), tokenizer, clock), run, len(run)).run()
    deaths = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    events: list[Event] = []
    ending = None
    for steps in [*deaths, None]:
        turn = RunningTurn(begun(request(stop=stop), tuple(events)), tokenizer, clock)
        assert turn.complete() is None
        new, ending = Engine(turn, run, len(run)).run(steps)
        events += new
        if ending is not None:
            break
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert [e.type for e in events].count("start") == 1
    assert text(events) == text(undisturbed)
    assert ids(events) == ids(undisturbed)
    assert ending is not None
    assert expected is not None
    assert ending.turn is not None
    assert expected.turn is not None
    assert ending.turn.tokens == expected.turn.tokens


@pytest.mark.parametrize("stop", ["upon", "pon", "café"])
def test_a_takeover_between_the_last_event_and_the_commit(tokenizer: Tokenizer, stop: str) -> None:
    run = tokenizer.encode(TEXT, specials=False)
    events, expected = Engine(RunningTurn(begun(request(stop=(stop,))), tokenizer, clock), run, len(run)).run()
    turn = RunningTurn(begun(request(stop=(stop,)), tuple(events)), tokenizer, clock)
    finished = turn.complete()
    assert finished is not None
    last, ending = turn.finish(finished)
    assert last == []
    assert ending.turn is not None
    assert expected is not None
    assert expected.turn is not None
    assert ending.turn.tokens == expected.turn.tokens
    assert not ending.warm
