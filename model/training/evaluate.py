"""`perennial evaluate`: what a model's memory recalls, beside the same model without it.

It plans what is still to be measured, says how many tokens that is, and measures subject by subject, one model in
memory at a time; whatever was measured is on disk at once (`results`), so that an interrupted run loses one cell at
most.
Everything is streamed through `advance` with states of fixed size: no length of text needs more memory than another.

It knows nothing of the server.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from model.kernels import Ops
from model.registry import Loaded, load_model
from model.tokenizer import Tokenizer
from model.training import stream
from model.training.corpus import open_corpus
from model.training.options import Options
from model.training.perplexity import Perplexity
from model.training.plan import Say, Step, steps, within_budget
from model.training.report import markdown
from model.training.results import Results
from model.training.subject import Bench, Kind, Subject


@dataclass(frozen=True, slots=True)
class Source:
    """The model to be measured, and how to run it. window: W, as it is served; memory: a trained one laid over it."""

    model: str | Path
    ops: Ops
    tokenizer: Tokenizer
    window: int
    memory: Path | None = None

    def load(self, kind: Kind, longest: int = 0) -> Loaded:
        """One of the three subjects; longest: tokens of the longest text that `full` attention will read."""
        if kind == "own":
            return load_model(self.model, self.ops, memory=self.memory, sliding_window_size=self.window)
        window = self.window if kind == "window" else -(-max(longest, self.window) // 64) * 64
        return load_model(self.model, self.ops, sliding_window_size=window, memory_layer_indices=())


def evaluate(source: Source, options: Options, *, command: Sequence[str], say: Say) -> dict[str, Any]:
    """Measure, keep, and say the table; returns what results.json holds.

    command: the words of the command line, to be kept. say: takes what the user is told; progress goes to standard
    error. Raises ValueError in its several forms for what cannot be measured, OSError where nothing can be written.
    """
    own: Loaded | None = source.load("own")
    assert own is not None
    if own.architecture != "senri" and options.against:
        say(f"compared with its own memory zeroed only: a {own.architecture} has no form without memory")
        options = replace(options, against=())
    corpus = open_corpus(options.corpus)
    bench = Bench(
        source.tokenizer, corpus, source.window, options.seed, options.chunk, options.rows, options.state_bytes
    )
    results = Results(options.out, _described(source, own), fresh=options.fresh)
    plan = steps(options, bench, remembers=bool(own.model.memory.layers), say=say)
    plan = within_budget(plan, options.tokens_budget, bench, results, say)
    total = sum(step.cost(bench, results) for step in plan)
    say(f"{total:,} tokens to read, about, for {len(plan)} cells; {results.path} keeps what is measured")
    if total:
        results.run(_run(command, options, bench))
    try:
        with tqdm(total=total, unit="tok", unit_scale=True, smoothing=0.05, disable=not total) as bar:
            for kind, some in groupby(plan, key=lambda step: step.kind):
                _measure(source, own if kind == "own" else None, kind, list(some), bench, results, bar)
                own = None  # one model at a time
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        raise
    finally:
        report = markdown(results.about, results.records)
        if results.records:
            results.save()
            (options.out / "results.md").write_text(report, encoding="utf-8")
    say(report)
    if options.plots:
        _plot(results, options.out, say)
    return results.about | {"records": results.records}


def _measure(
    source: Source,
    loaded: Loaded | None,
    kind: Kind,
    plan: list[Step],
    bench: Bench,
    results: Results,
    bar: tqdm[Any],
) -> None:
    """The steps of one subject, each cell kept when it is done."""
    plan = [step for step in plan if step.cost(bench, results)]
    if not plan:
        return
    loaded = loaded or source.load(kind, max(step.longest(bench) for step in plan))
    for step in plan:
        bar.set_description(f"{next(iter(step.conditions))}: {step.task.title}")
        subject = Subject(loaded.model, step.conditions)
        if isinstance(step.task, Perplexity):
            records = step.task.measure(subject, bench, results, bar.update)
        else:
            records = stream.measure(step.task, subject, bench, results, bar.update)
        for some in records:
            results.add(some)


def _plot(results: Results, folder: Path, say: Say) -> None:
    try:
        from model.training.plots import draw  # noqa: PLC0415  # matplotlib takes a second to import
    except ModuleNotFoundError as e:
        say(f"no plots: {e.name} is not installed (pip install 'perennial[plots]')")
        return
    for path in draw(results.records, folder):
        say(f"plot: {path}")


def _described(source: Source, own: Loaded) -> dict[str, Any]:
    """Of the model, for the results."""
    memory = own.model.memory
    return {
        "name": str(source.model),
        "fingerprint": f"{own.fingerprint}-{source.tokenizer.fingerprint[:8]}",
        "window": source.window,
        "memory_layers": list(memory.layers),
        "memory_rule": str(own.checkpoint.config.get("memory_rule", "linear"))
        if own.architecture == "senri"
        else own.architecture,
        "state_bytes": own.model.spec.nbytes,
        "kernels": source.ops.name,
    }


def _run(command: Sequence[str], options: Options, bench: Bench) -> dict[str, Any]:
    """Of one run, for the results: what makes it possible to do it again."""
    return {
        "command": shlex.join(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": options.seed,
        "corpus": bench.corpus.name if bench.corpus else "made",
        "chunk": options.chunk,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("perennial", "torch", "numpy", "tokenizers")}
        | {"python": platform.python_version()},
    }
