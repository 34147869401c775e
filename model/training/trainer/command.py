"""`perennial train | plot | compare`: their flags, and what they do. Light to import: torch comes with the work."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from model.training.trainer import settings as settings_
from model.training.trainer.settings import Associative, Language, Recall, Settings, TrainingError

SUMMARIES = {
    "train": "Train a model, or the memory of one, as a YAML file says; the same command goes on where it stopped.",
    "plot": "Draw the training curves of runs.",
    "compare": "Show runs side by side: what differs in their settings, and what came out.",
}
CONFIGS = resources.files("model.training") / "configs"
EPILOG = (
    "A run's folder holds settings.yaml, history.jsonl, results.json, curves.png, and two checkpoints, best/ and "
    "last/, that `perennial serve --model` takes (of task recall a memory.safetensors; of task associative weights "
    "without a tokeniser, there being no text). The first Ctrl-C stops after the step and keeps it. Example: perennial "
    "train rsm-characters --out runs/rsm --minutes 9"
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
    if command == "train":
        _train(given, say)
        return
    try:
        from model.training.trainer import curves  # noqa: PLC0415
    except ImportError as e:
        raise TrainingError(f"{e.name} is not installed, which pictures need: pip install 'perennial[plots]'") from e

    if command == "plot":
        say(str(curves.plot(given["runs"], given["out"] or given["runs"][0] / "curves.png")))
    else:
        say(curves.compare(given["runs"]))


def find(config: str) -> Path:
    """The file of a configuration: a path, or the name of one that comes with the project. Raises `TrainingError`."""
    if (path := Path(config)).is_file():
        return path
    if config in shipped():
        return Path(str(CONFIGS / f"{config}.yaml"))
    raise TrainingError(f"{config}: no such file; these come with the project: {', '.join(shipped())}")


def _train(given: Mapping[str, Any], say: Say) -> None:
    path = find(given["config"])
    settings = settings_.load(path, given["changes"])
    if given["show"]:
        say(settings_.dump(settings).rstrip())
        return
    folder = given["out"] or Path("runs") / path.stem
    if given["fresh"] and folder.exists():
        if not (folder / "settings.yaml").exists():
            raise TrainingError(f"{folder}: is not the folder of a run; it is left alone")
        _forget(folder)
    import torch  # noqa: PLC0415

    from model.training.trainer.loop import train  # noqa: PLC0415
    from model.training.trainer.run import Run  # noqa: PLC0415

    if given["train_threads"]:
        torch.set_num_threads(given["train_threads"])
    run_ = Run(folder, settings)
    try:
        task = make_task(settings, folder)
    except Exception:
        run_.forget()
        raise
    train(run_, task, minutes=given["minutes"], say=say)
    try:
        from model.training.trainer import curves  # noqa: PLC0415
    except ImportError:
        say("no curves.png: matplotlib is not installed (pip install 'perennial[plots]')")
    else:
        if run_.history:
            curves.plot([folder], folder / "curves.png")
    say(f"{folder}: results.json, history.jsonl, best, last")


def _forget(folder: Path) -> None:
    """Take a run's own files out of its folder; what else lies there is somebody's."""
    from model.training.trainer.run import CONTENTS  # noqa: PLC0415

    for path in (folder / name for name in CONTENTS):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def make_task(settings: Settings, folder: Path) -> Any:
    """The task of a run (`task.Task`), which loads or makes the model. Raises ValueError in its many forms."""
    if isinstance(settings, Language):
        from model.training.trainer.language import LanguageTask  # noqa: PLC0415

        return LanguageTask(settings, folder)
    if isinstance(settings, Associative):
        from model.training.trainer.associative import AssociativeTask  # noqa: PLC0415

        return AssociativeTask(settings)
    assert isinstance(settings, Recall)
    from model.training.trainer.recall import RecallTask  # noqa: PLC0415

    return RecallTask(settings)
