"""The `openai` package for Node against the whole server on a tiny model. The programs in `node/` are its users."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.openai_clients import KEYS, SAY, of, rendered_after, told
from support.serving import wait_for

pytestmark = pytest.mark.timeout(300)

PROGRAMS = Path(__file__).with_name("node")
# To this client they are fields like any other.
SAY_JS = {name: value for name, value in SAY.items() if name != "extra_body"} | SAY["extra_body"]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs beside their packages. What npm installs is kept in pytest's cache, by what it was asked for."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.fail("These tests need Node.js 18 or newer with npm; on Debian: apt-get install nodejs npm")
    asked = (PROGRAMS / "package.json").read_bytes()
    kept = request.config.cache.mkdir(f"openai-node-{hashlib.sha256(asked).hexdigest()[:12]}") / "installed"
    if not kept.exists():
        fresh = tmp_path_factory.mktemp("npm")
        (fresh / "package.json").write_bytes(asked)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with suppress(FileExistsError):  # another run was faster
            _move(fresh, kept)
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(PROGRAMS, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(kept / "node_modules")
    return folder


def _move(folder: Path, to: Path) -> None:
    """All of it or nothing, also from one file system to another. Raises FileExistsError."""
    beside = to.with_name(f"{to.name}-{os.getpid()}")
    shutil.move(folder, beside)
    try:
        beside.rename(to)
    except OSError:
        shutil.rmtree(beside)
        raise FileExistsError from None


@pytest.fixture
def run(programs: Path, url: str) -> Run:
    """Run a program on what it is given, in JSON; what it prints."""

    def program(name: str, **given: Any) -> Any:
        done = subprocess.run(
            ["node", f"{name}.mjs"],
            cwd=programs,
            env=os.environ | {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEYS["node"]},
            input=json.dumps({"say": SAY_JS} | given),
            capture_output=True,
            encoding="utf-8",
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return program


def test_a_history_that_is_resent_is_read_once(run: Run, url: str) -> None:
    """Whole, streamed and by the stream helper: only the new message is read, and the texts are a named session's."""
    questions = ["Who is it?", "Since when?", "Until when?", "And what for?"]
    answers = run("chat", questions=questions)
    assert len({answer["perennial"]["session_id"] for answer in answers}) == 1
    before = None
    for question, answer in zip(questions, answers, strict=True):
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == (before["usage"]["total_tokens"] - 1 if before else 0)
        if before:
            new = rendered_after(question, cut_off=before["finish"] == "length")
            assert answer["usage"]["prompt_tokens"] - cached == new
            assert answer["perennial"]["continued_from"] == before["perennial"]["turn"]
        before = answer
    with of(url) as other:
        assert [answer["text"] for answer in answers] == told(other, questions)


def test_responses_continue_each_other(run: Run, url: str) -> None:
    questions = ["Is it far?", "How far?", "And back?"]
    say = {("max_output_tokens" if name == "max_tokens" else name): value for name, value in SAY_JS.items()}
    *made, retrieved = run("responses", questions=questions, say=say)
    assert retrieved == made[-1]
    for one, before in zip(made[1:], made, strict=False):
        assert one["previous_response_id"] == before["id"]
        assert one["usage"]["input_tokens_details"]["cached_tokens"] == before["usage"]["total_tokens"] - 1
    with of(url) as other:
        assert [one["output_text"] for one in made] == told(other, questions)


def test_what_the_client_gives_up_is_cancelled(run: Run, url: str) -> None:
    """A stream that is left and a request that is aborted end on the server too; the client goes on."""
    left = _left(url)
    heard = run("abort", question="Tell me all of it.", many=4000, say=SAY_JS | {"ignore_eos": True})
    assert heard["error"] == "APIUserAbortError"
    assert 4 <= heard["chunks"] < 400  # it leaves at the fourth; what had come by then is still given to it
    assert heard["text"]
    path = f"/v1/generations/{heard['generation']}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEYS['node']}"}) as client:
        wait_for(lambda: client.get(path).raise_for_status().json()["status"] == "cancelled")
        assert client.get(path).json()["text"].startswith(heard["text"])
    wait_for(lambda: _left(url) == left + 2)
    with of(url) as other:
        assert [heard["after"]] == told(other, ["Still there?"], extra_body={"ignore_eos": True})


def _left(url: str) -> int:
    """How many clients left before the end, by the server's count."""
    metrics = httpx.get(f"{url}/metrics").text
    return int(float(metrics.partition("\nperennial_client_disconnects_total ")[2].split()[0]))


def test_what_is_refused_is_thrown_by_its_name(run: Run) -> None:
    assert [tuple(one.values()) for one in run("errors")] == [
        ("NotFoundError", 404, "model_not_found", "model"),
        ("BadRequestError", 400, "invalid_request", "tools"),
        ("NotFoundError", 404, "response_not_found", None),
        ("AuthenticationError", 401, "invalid_api_key", None),
    ]
