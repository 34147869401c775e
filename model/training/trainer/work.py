"""What `perennial train | plot | compare` do. Torch comes only where something is trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.training.trainer import settings as settings_
from model.training.trainer.command import CONFIGS, Say, shipped
from model.training.trainer.settings import Associative, Language, Recall, Recorded, Settings, TrainingError


def work(command: str, given: Mapping[str, Any], say: Say) -> None:
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
    if isinstance(settings, Recorded):
        from model.training.trainer.recorded import RecordedTask  # noqa: PLC0415

        return RecordedTask(settings, folder)
    assert isinstance(settings, Recall)
    from model.training.trainer.recall import RecallTask  # noqa: PLC0415

    return RecallTask(settings)
