"""Flags that are refused before anything is sent."""

from __future__ import annotations

import pytest

from loadtest.cli import main
from loadtest.flags import span
from loadtest.workload import Range


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["closed", "--url", "http://198.51.100.7:8000"], "not on this machine"),
        (["closed", "--url", "ftp://localhost"], "not an address"),
        (["closed", "--conversations", "50000", "--turns", "50"], "more than 100000 turns"),
        (["closed", "--users", "0"], "not between 1 and"),
        (["closed", "--users", "many"], "invalid"),
        (["closed", "--words", "9:3"], "neither a number"),
        (["closed", "--tokens", "0"], "neither a number"),
        (["closed", "--extra", "[1]"], "not a JSON object"),
        (["closed", "--rate", "3"], "unrecognized"),
        (["open", "--rate", "nan"], "not between"),
        (["open", "--rate", "0"], "not between"),
        (["open", "--limit-s", "inf"], "not between"),
        (["long", "--beside", "http://127.0.0.1:1"], "NAME=URL"),
        (["long", "--beside", "server=http://127.0.0.1:1"], "a name of its own"),
        (["compare", "--beside", "peer=http://198.51.100.7"], "not on this machine"),
        (["chaos", "--api", "openai"], "own API"),
        ([], "COMMAND"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["closed", "open", "long", "compare", "chaos"])
def test_every_command_explains_its_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--limit-s" in said
    assert "LOADTEST_API_KEY" in said


def test_a_server_that_is_not_there_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["closed", "--url", "http://127.0.0.1:1"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_spans() -> None:
    assert span("7") == Range(7, 7)
    assert span("2:9") == Range(2, 9)
