"""The `llm` command-line tool against the whole server on a tiny model, configured as its documentation says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.openai_clients import KEYS, of, told

pytestmark = pytest.mark.timeout(300)

MODELS = """\
- model_id: perennial
  model_name: tiny
  api_base: {url}/v1
  api_key_name: perennial
- model_id: elsewhere
  model_name: gpt-5
  api_base: {url}/v1
  api_key_name: perennial
"""
# The tool knows no repetition_penalty; this one keeps the model from repeating itself too.
OPTIONS = {"temperature": 0.0, "max_tokens": 12, "frequency_penalty": 2.0}
QUESTIONS = ["What is new?", "And what is old?"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def llm(url: str, tmp_path: Path) -> Run:
    """Run the tool with a user's folder of its own."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(url=url))
    (tmp_path / "keys.json").write_text(json.dumps({"perennial": KEYS["llm"]}))

    def run(*words: str, ends: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *words],
            # Other packages' plugins are none of our business, such as the one that the real weights come in.
            env=os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": "", "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert text.returncode == ends, text.stderr
        return text

    return run


def options() -> list[str]:
    return [word for name, value in OPTIONS.items() for word in ("-o", name, str(value))]


def sessions(url: str) -> list[dict[str, Any]]:
    """All of this tool's tenant."""
    answer = httpx.get(f"{url}/v1/sessions", headers={"Authorization": f"Bearer {KEYS['llm']}"})
    return list(answer.raise_for_status().json()["data"])


def test_a_conversation_is_continued(llm: Run, url: str) -> None:
    """`llm -c` sends the history again; the server goes on in the session, which then holds both turns."""
    known = {session["id"] for session in sessions(url)}
    first = llm("-m", "perennial", "--no-stream", *options(), QUESTIONS[0]).stdout
    (session,) = (one for one in sessions(url) if one["id"] not in known)
    second = llm("-c", *options(), QUESTIONS[1]).stdout

    noted = json.loads(llm("logs", "-c", "--json", "-n", "0").stdout)
    assert [one["response"] + "\n" for one in noted] == [first, second]
    lengths = [one["input_tokens"] + one["output_tokens"] for one in noted]
    details = json.loads(noted[1]["token_details"])
    assert details["prompt_tokens_details"]["cached_tokens"] == lengths[0] - 1
    (after,) = (one for one in sessions(url) if one["id"] not in known)
    assert (after["id"], after["position"]) == (session["id"], lengths[1])
    assert session["position"] == lengths[0]
    with of(url) as other:
        texts = told(other, QUESTIONS, **OPTIONS, extra_body={"repetition_penalty": 1})
    assert [one["response"] for one in noted] == texts


def test_a_model_that_is_not_there_is_named(llm: Run) -> None:
    refused = llm("-m", "elsewhere", "Hello?", ends=1).stderr
    assert "There is no model with this name here" in refused
