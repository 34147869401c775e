"""`perennial inspect` on what a server said, and its refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from server.errors import StartupError
from server.inspection import COLUMNS, draw, table

MATRIX: dict[str, Any] = {
    "layer": 10,
    "memory": 0,
    "head": 2,
    "norm": 3.25,
    "norm_z": None,
    "rank": 2,
    "effective_rank": 1.75,
    "singular_values": [3.0, 1.25, 0.0],
    "gates": [0.25, 0.5],
    "writes": 7,
}
MEMORY: dict[str, Any] = {
    "session": "sess_a_0",
    "turn": "turn_a_b",
    "position": 12345,
    "frozen": True,
    "matrices": [MATRIX],
}


def test_the_table_has_a_line_for_each_matrix() -> None:
    title, head, row = table(MEMORY).splitlines()
    assert title == "sess_a_0 at position 12,345 (turn_a_b, frozen)"
    assert tuple(head.split()) == COLUMNS
    assert row.split() == ["10", "0", "2", "3.25", "-", "2", "1.8", "7", "0.25", "0.50", "3", "1.25", "0"]
    assert "nothing beyond its window" in table(MEMORY | {"matrices": []})


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    file = tmp_path / "memory.png"
    draw(MEMORY | {"matrices": [MATRIX, MATRIX | {"layer": 20, "gates": []}]}, file)
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width > 2 * height > 400
    with pytest.raises(StartupError, match="nothing to draw"):
        draw(MEMORY | {"matrices": []}, file)
    with pytest.raises(StartupError, match="can't be written"):
        draw(MEMORY, tmp_path / "nowhere" / "x.png")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--url", "http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1"),
        (["--url", "file:///etc"], "--url is an http:// or https:// address"),
        (["--key-file", "nowhere"], "--key-file: nowhere can't be read"),
    ],
)
def test_what_can_not_be_asked_is_said_in_a_line(
    flags: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "sess_x", *flags]) == 1
    assert why in capsys.readouterr().err
