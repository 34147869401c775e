"""`python -m model.bench_memory`: what the trained memory that ships costs a decoded token, beside none at all.

The default model without a memory, with the one that ships, and with it written as tokens leave the window: all in one
process, token by token in turns, the window full, so that a machine whose speed drifts treats them alike; the median of
the turns' ratios is to be trusted. The last line is JSON. It knows nothing of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence

import torch

from model.kernels import choose_ops
from model.registry import load_model
from model.senri_config import WRITES
from model.source import DEFAULT_MODEL, shipped_memory
from model.state import Model, State, as_rows

WINDOW = 512
WITHOUT = "no memory"


def build() -> dict[str, Model]:
    """The models, the one without a memory first; one backend serves all."""
    ops, memory = choose_ops("auto"), shipped_memory(DEFAULT_MODEL)
    without = load_model(DEFAULT_MODEL, ops, sliding_window_size=WINDOW, num_memory_layers=0)
    built: dict[str, Model] = {WITHOUT: without.model}
    for writes in WRITES:
        loaded = load_model(DEFAULT_MODEL, ops, memory=memory, sliding_window_size=WINDOW, memory_writes=writes)
        built[f"memory, written {writes}"] = loaded.model
    return built


def decode(model: Model, state: State, tokens: Sequence[int]) -> float:
    """Seconds that a token takes, one after the other."""
    began = time.perf_counter()
    for token in tokens:
        model.advance(*as_rows([[token]]), state)
    return (time.perf_counter() - began) / len(tokens)


def measure(models: dict[str, Model], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a token by model, a number for each round."""
    states = {name: State.zeros(model.spec, 1) for name, model in models.items()}
    found: dict[str, list[float]] = {name: [] for name in models}
    for name, model in models.items():
        for start in range(0, 2 * WINDOW, 256):
            model.advance(*as_rows([list(range(100 + start, 356 + start))]), states[name])
    order = list(models)
    for turn in range(rounds):
        for name in order if turn % 2 else reversed(order):
            found[name].append(1e3 * decode(models[name], states[name], [500 + turn % 1000, 700]))
    return found


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m model.bench_memory", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="how often each model has its turn (default 200)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the backend")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(build(), args.rounds)
    report = {}
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found[WITHOUT], strict=True))
        report[name] = {
            "ms": round(statistics.median(times), 3),
            "least": round(min(times), 3),
            "ratio": round(ratio, 3),
        }
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value}" for key, value in report[name].items()) + "\n")
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
