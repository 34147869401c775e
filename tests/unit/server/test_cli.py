"""The command line: flags are the settings, help documents them, errors are lines and exit codes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import COMMANDS, main, parser
from server.settings import PREFIX, Settings, load_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def used_by(command: str) -> set[str]:
    return {
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and command in str(field.json_schema_extra["used_by"]).split()
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_documents_each_setting_with_its_variable_and_default(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    for name in used_by(command):
        default = Settings.model_fields[name].default
        shown = "none" if default in (None, ()) else str(default).lower() if isinstance(default, bool) else str(default)
        assert f"[{PREFIX}{name.upper()}; default {shown}]" in text, name
        assert "--" + name.replace("_", "-") in text
    assert "listen-fd" not in text


def test_every_setting_belongs_to_some_command():
    assert set().union(*map(used_by, COMMANDS)) == set(Settings.model_fields)


def test_a_new_key_comes_with_its_entry(capsys: pytest.CaptureFixture[str]):
    assert main(["key", "--label", "blue"]) == 0
    key, entry = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines())
    settings = load_settings({"api_keys": entry}, env_file=None)
    assert settings.access().tenants == {hashlib.sha256(key.encode()).hexdigest(): "blue"}
    assert main(["key"]) == 0
    other, alone = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines())
    assert len(key) > 40
    assert (key != other, alone) == (True, hashlib.sha256(other.encode()).hexdigest())
    assert main(["key", "--label", "two words"]) == 2
    assert "--label" in capsys.readouterr().err


def test_only_flags_that_were_given_are_settings():
    given = vars(parser().parse_args(["api", "--port", "5", "--no-allow-anonymous"]))
    assert {name: given[name] for name in given if name in Settings.model_fields} == {
        "port": "5",
        "allow_anonymous": False,
    }


def test_a_wrong_flag_is_told_its_nearest(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--prot", "1"]) == 2
    assert capsys.readouterr().err == "perennial serve: there is no flag --prot; did you mean --port?\n"
    assert main(["worker", "--port=1"]) == 2  # a worker listens to nobody


def test_a_wrong_value_is_a_line_not_a_traceback(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--port", "eighty", "--slots", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["perennial serve", "--port"], ["perennial serve", "--slots"]]


@pytest.mark.parametrize("command", ["api", "worker"])
def test_what_needs_a_redis_says_so(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command]) == 2
    assert "PERENNIAL_REDIS_URL" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["api", "--redis-url", "redis://127.0.0.1:1", "--model", str(tmp_path / "nothing")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("perennial api: ")
    assert str(tmp_path / "nothing") in line


def test_an_open_server_needs_keys_or_an_explicit_word(capsys: pytest.CaptureFixture[str]):
    for command in (["api", "--redis-url", "redis://127.0.0.1:1"], ["serve"]):
        assert main([*command, "--host", "0.0.0.0"]) == 2
        assert "PERENNIAL_ALLOW_ANONYMOUS" in capsys.readouterr().err


def test_the_api_never_imports_torch_or_the_engine():
    code = (
        "import sys, server.api.app; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'numba') "
        "or m.startswith(('server.engine', 'server.worker', 'model.senri'))])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
