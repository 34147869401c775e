"""Completions over real HTTP, with a worker that says what a test wants."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from support.serving import Running, ScriptedWorker

PATH = "/v1/completions"
ASK: dict[str, Any] = {"model": "tiny", "prompt": "zabaglione"}


async def answer(worker: ScriptedWorker, word: str | None = None) -> Running:
    """word: None repeats what was read."""
    turn = await worker.take()
    await turn.start()
    await turn.say(bytes(turn.begun.request.input_ids).decode() if word is None else word)
    await turn.finish("length")
    return turn


async def test_prompts_and_choices_stand_in_their_order(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"prompt": ["one", "three"], "n": 2, "seed": 1}))
    turns = [await answer(worker) for _ in range(4)]
    body = (await asking).json()
    assert (body["object"], body["id"][:5]) == ("text_completion", "cmpl-")
    assert body["choices"] == [
        {"index": i, "text": text, "logprobs": None, "finish_reason": "length"}
        for i, text in enumerate(["one", "one", "three", "three"])
    ]
    assert body["usage"]["prompt_tokens"] == 8
    assert body["usage"]["completion_tokens"] == 16
    # A prompt is answered alike whichever stand beside it.
    assert len({turn.begun.request.sampling["seed"] for turn in turns}) == 2
    assert all(turn.begun.request.raw and not turn.begun.request.store for turn in turns)


async def test_ids_are_read_as_they_are(client: httpx.AsyncClient, worker: ScriptedWorker):
    for prompt, texts in (([65, 66], ["AB"]), ([[65], [66, 67]], ["A", "BC"])):
        asking = asyncio.create_task(client.post(PATH, json=ASK | {"prompt": prompt}))
        for _ in texts:
            await answer(worker)
        assert [choice["text"] for choice in (await asking).json()["choices"]] == texts


async def test_a_session_is_kept_where_it_is_asked_for_and_goes_on(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"store": True}))
    await answer(worker, "one")
    first = (await asking).json()["perennial"]
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"session_id": first["session_id"], "n": 2}))
    turns = [await answer(worker, "x"), await answer(worker, "y")]
    body = (await asking).json()
    assert body["perennial"]["session_id"] == first["session_id"]
    assert {turn.begun.session.head for turn in turns} == {first["turn"]}
    assert body["usage"]["prompt_tokens"] == 13 + 10


REFUSED: list[tuple[dict[str, Any], int, str | None]] = [
    ({"prompt": ""}, 400, "prompt"),
    ({"prompt": []}, 400, "prompt"),
    ({"prompt": 5}, 400, "prompt"),
    ({"prompt": {}}, 400, "prompt"),
    ({"prompt": ["a", ""]}, 400, "prompt[1]"),
    ({"prompt": ["a", 5]}, 400, "prompt[1]"),
    ({"prompt": ["a"] * 9}, 400, "prompt"),
    ({"prompt": [65, 258]}, 400, "prompt[1]"),
    ({"prompt": [65, "a"]}, 400, "prompt[1]"),
    ({"prompt": [[65], [258]]}, 400, "prompt[1][0]"),
    ({"prompt": [65] * 20_001}, 413, "prompt"),
    ({"prompt": ["a", "b"], "session_id": "sess_x"}, 400, None),
    ({"echo": True}, 400, "echo"),
    ({"suffix": "x"}, 400, "suffix"),
    ({"best_of": 3}, 400, "best_of"),
    ({"model": "other"}, 404, "model"),
    ({"messages": []}, 400, "messages"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
]


@pytest.mark.parametrize(("fields", "status", "param"), REFUSED, ids=[str(fields)[:40] for fields, *_ in REFUSED])
async def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.AsyncClient, worker: ScriptedWorker, fields: dict[str, Any], status: int, param: str
):
    response = await client.post(PATH, json=ASK | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert "zabaglione" not in response.text


async def test_one_prompt_that_is_refused_takes_the_others_with_it(client: httpx.AsyncClient, worker: ScriptedWorker):
    refused = await client.post(PATH, json=ASK | {"prompt": [[65], [300]]})
    assert refused.status_code == 400

    async def depth() -> float:
        lines = (await client.get("/metrics")).text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith("perennial_queue_depth"))

    async with asyncio.timeout(10):
        while await depth():
            await asyncio.sleep(0.01)
