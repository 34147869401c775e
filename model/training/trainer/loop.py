"""The loop: step, note, evaluate, keep; stop in time, and go on exactly where it stopped.

Invariants: steps 1 to n in one run and in several give the same parameters, bit for bit, on the same machine with the
same number of threads; whatever was noted is on disk; the first Ctrl-C ends after the step and keeps it.
"""

from __future__ import annotations

import math
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from types import FrameType
from typing import Any

from tqdm import tqdm

from model.training.trainer.optimise import Trained
from model.training.trainer.run import Progress, Run
from model.training.trainer.task import Figures, Task

Say = Callable[[str], None]


def train(run: Run, task: Task, *, minutes: float, say: Say, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Train until the run's steps are done, or for so many minutes (0: no bound). Returns where it stands then.

    Raises `TrainingError` where the folder cannot be gone on from.
    """
    s = run.settings
    trained = Trained(task.groups, s.optimiser, s.steps)
    progress = Progress()
    if (kept := run.resume()) is not None:
        tensors, progress = kept
        trained.load(tensors)
        task.resume({name.removeprefix("carried."): t for name, t in tensors.items() if name.startswith("carried.")})
        say(f"going on after step {progress.step:,} of {s.steps:,}")
    count = sum(parameter.numel() for parameter in trained.parameters.values())
    say(f"{count:,} parameters are trained")
    began, before = clock(), progress.seconds
    with _asked_to_stop() as stop, tqdm(total=s.steps, initial=progress.step, unit="step", desc=s.task) as bar:
        while progress.step < s.steps:
            figures, tokens = _step(task, trained, progress.step, s.accumulate)
            seconds = before + clock() - began
            progress = replace(
                progress, step=progress.step + 1, tokens=progress.tokens + tokens, seconds=round(seconds, 3)
            )
            bar.update()
            bar.set_postfix(loss=f"{figures['loss']:.3f}")
            last = progress.step == s.steps
            out_of_time = bool(minutes) and clock() - began > 60 * minutes
            record: dict[str, Any] = {"step": progress.step, **figures}
            if last or progress.step % s.evaluate_every == 0:
                judged = task.evaluate()
                record |= {f"validation_{name}": value for name, value in judged.items()}
                better = math.isfinite(judged["loss"]) and (progress.best is None or judged["loss"] < progress.best)
                if better:
                    progress = replace(progress, best=judged["loss"])
                card = _card(run, progress, judged)
                if better:
                    task.export(run.folder / "best", card)
                say(_line(progress.step, figures, judged))
                run.note(record)
                run.results(card)
                _keep(run, trained, task, progress)
            else:
                run.note(record)
            if stop.is_set() or (out_of_time and not last):
                _keep(run, trained, task, progress)
                say(f"stopped after step {progress.step:,} of {s.steps:,}: the same command goes on from here")
                break
    card = _card(run, progress, _judged_last(run))
    task.export(run.folder / "last", card)
    run.results(card)
    return progress


def _step(task: Task, trained: Trained, step: int, accumulate: int) -> tuple[Figures, int]:
    """One step: its figures, means over its micro-batches, and the tokens that were read."""
    sums: Figures = {}
    tokens = 0
    for micro in range(accumulate):
        loss, figures, read = task.loss(step, micro)
        (loss / accumulate).backward()
        tokens += read
        for name, value in {"loss": float(loss.detach()), **figures}.items():
            sums[name] = sums.get(name, 0.0) + value / accumulate
    norm = trained.step(step)
    return sums | {"norm": norm, "lr": trained.rate(step)}, tokens


def _keep(run: Run, trained: Trained, task: Task, progress: Progress) -> None:
    carried = {f"carried.{name}": tensor for name, tensor in task.carried().items()}
    run.keep({**trained.state(), **carried}, progress)


def _judged_last(run: Run) -> Figures:
    """What was noted of the last evaluation; nothing where there was none."""
    noted = [r for r in run.history if "validation_loss" in r]
    last = noted[-1] if noted else {}
    return {name.removeprefix("validation_"): last[name] for name in last if name.startswith("validation_")}


def _card(run: Run, progress: Progress, judged: Figures) -> dict[str, Any]:
    """The figures of a run as they stand. judged: what was measured last."""
    return {
        "task": run.settings.task,
        "steps": progress.step,
        "of": run.settings.steps,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "best": _both(progress.best),
        "final": {**judged, **_both(judged.get("loss"))},
        "versions": {"torch": version("torch"), "perennial": version("perennial"), "python": platform.python_version()},
    }


def _both(loss: float | None) -> dict[str, float]:
    return {} if loss is None else {"loss": loss, "perplexity": math.exp(min(loss, 100.0))}


def _line(step: int, figures: Figures, judged: Figures) -> str:
    told = ", ".join(f"{name} {value:.4g}" for name, value in judged.items())
    return f"step {step:,}: training loss {figures['loss']:.4f}; validation {told}"


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM; the second ends at once. In the main thread only, where signals arrive."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    held: dict[signal.Signals, Any] = {}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, held[signal.Signals(number)])

    for wanted in (signal.SIGINT, signal.SIGTERM):
        held[wanted] = signal.signal(wanted, ask)
    try:
        yield stop
    finally:
        for wanted, handler in held.items():
            signal.signal(wanted, handler)
