"""`perennial train | plot | compare`: their flags. Light to import, for every command's help passes through here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

SUMMARIES = {
    "train": "Train a model, or the memory of one, as a YAML file says; the same command goes on where it stopped.",
    "plot": "Draw the training curves of runs.",
    "compare": "Show runs side by side: what differs in their settings, and what came out.",
}
CONFIGS = resources.files("model.training") / "configs"
EPILOG = (
    "A run's folder holds settings.yaml, history.jsonl, results.json, curves.png, and two checkpoints, best/ and "
    "last/, that `perennial serve --model` takes (of tasks recall and recorded a memory.safetensors; of task "
    "associative weights without a tokeniser: there is no text). The first Ctrl-C stops after the step and keeps it. "
    "Example: perennial train rsm-characters --out runs/rsm --minutes 9"
)
Say = Callable[[str], None]


def shipped() -> list[str]:
    """Names of the settings that come with the project."""
    return sorted(file.name.removesuffix(".yaml") for file in CONFIGS.iterdir() if file.name.endswith(".yaml"))


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """The flags of one of the commands."""
    if command != "train":
        parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
        if command == "plot":
            parser.add_argument("--out", type=Path, metavar="FILE", help="a PNG [default: curves.png in the first run]")
        return
    names = ", ".join(shipped())
    parser.add_argument("config", metavar="CONFIG", help=f"a YAML file, or one that comes with it: {names}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder [default: runs/NAME]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help="change one setting"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="X", help="stop after so many, to be gone on with [default: none]"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", dest="train_threads", help="[default: all cores]"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the run in DIR and begin again")
    parser.add_argument("--show", action="store_true", help="print the settings, all of them, and do nothing")


def run(command: str, given: Mapping[str, Any], say: Say) -> None:
    """Do what a command line asks for. Raises ValueError (as `TrainingError` and others) or OSError."""
    from model.training.trainer.work import work  # noqa: PLC0415

    work(command, given, say)
