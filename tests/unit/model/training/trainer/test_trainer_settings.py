"""Settings of training runs: what comes with the project is valid, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.training.trainer import command, work
from model.training.trainer.settings import Language, TrainingError, dump, load, parse

LEAST = {"task": "language", "steps": 3, "model": {"model_type": "rsm"}}


@pytest.mark.parametrize("name", command.shipped())
def test_shipped_settings_are_valid_and_survive_being_written(name: str, tmp_path: Path) -> None:
    settings = load(work.find(name))
    (tmp_path / "again.yaml").write_text(dump(settings))
    assert load(tmp_path / "again.yaml") == settings


def test_changes_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("task: language\nsteps: 3\nmodel: {model_type: rsm}\n")
    settings = load(file, ["optimiser.lr=3e-4", "steps=7", "model.hidden_size=32"])
    assert isinstance(settings, Language)
    assert (settings.optimiser.lr, settings.steps, settings.model["hidden_size"]) == (3e-4, 7, 32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps: Input should be greater"),
        ({"stesp": 3}, "stesp: Extra inputs"),
        ({"optimiser": {"lr": "fast"}}, "optimiser.lr: "),
        ({"task": "dance"}, "task: "),
        ({"validation": 0.9}, "validation: "),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], told: str) -> None:
    with pytest.raises(TrainingError, match=f"^here: {told}"):
        parse({**LEAST, **change}, "here")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"facts": (6, 2)}, "facts: .*the first is the least"),
        ({"facts": (0, 2)}, "facts.0: "),
        ({"windows": ()}, "windows: "),
        ({"tokens": (0,)}, "tokens.0: "),
        ({"memory": {"layers": ()}}, "memory.layers: "),
        ({"task": "associative", "model": {}, "pairs": (8, 4)}, "pairs: .*the first is the least"),
        ({"task": "associative", "model": {}, "distance": (-1.0, 1.0)}, "distance.0: "),
    ],
)
def test_a_range_that_nothing_can_be_drawn_from_is_named(change: dict[str, object], told: str) -> None:
    with pytest.raises(TrainingError, match=f"^here: {told}"):
        parse({"task": "recall", "steps": 3, **change}, "here")


@pytest.mark.parametrize(
    ("text", "changes", "told"),
    [
        ("- a list", [], "is not a table of settings"),
        ("a: [", [], "is not YAML"),
        ("task: language", ["steps"], "--set steps: is not NAME=VALUE"),
        ("task: language", ["task.a=1"], "--set task.a=1: task has no fields"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, text: str, changes: list[str], told: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(TrainingError, match=told):
        load(tmp_path / "a.yaml", changes)
    with pytest.raises(TrainingError, match="cannot be read"):
        load(tmp_path / "none.yaml")
