"""`python -m model.bench_memory`: what the trained memory that ships costs a decoded token, beside none at all.

The default model without a memory, with the one that ships, and with it written as tokens leave the window: all in one
process, two tokens each in turns, the window full, so that a machine whose speed drifts treats them alike; and on the
same copy of the weights, for where they happen to lie in memory alone makes some per cent of difference. The median of
the turns' ratios is to be trusted. The last line is JSON. It knows nothing of the server.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple

import torch
from torch import Tensor

from model.kernels import Linear
from model.kernels.cpu import CpuOps
from model.registry import load_model
from model.senri_config import WRITES
from model.source import DEFAULT_MODEL, shipped_memory
from model.state import Model, State, as_rows
from model.weights import Weight

WINDOW = 512
WITHOUT = "no memory"


class Sharing(CpuOps):
    """The served backend, which gives the same product again for weights of the same content."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[bytes, Linear] = {}

    def linear(self, weights: Sequence[Weight]) -> Linear:
        digest = hashlib.sha256()
        for weight in weights:
            parts = [weight] if isinstance(weight, Tensor) else [part for part in astuple(weight) if part is not None]
            for part in parts:
                digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
                digest.update(part.contiguous().view(torch.uint8).numpy().tobytes())
        if digest.digest() not in self._kept:
            self._kept[digest.digest()] = super().linear(weights)
        return self._kept[digest.digest()]


def build() -> dict[str, Model]:
    """The models, the one without a memory first."""
    ops, memory = Sharing(), shipped_memory(DEFAULT_MODEL)
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
    report: dict[str, dict[str, float]] = {}
    for name, times in found.items():
        figures = {
            "ms": statistics.median(times),
            "least_ms": min(times),
            "ratio": statistics.median(a / b for a, b in zip(times, found[WITHOUT], strict=True)),
        }
        report[name] = {key: round(value, 3) for key, value in figures.items()}
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value}" for key, value in report[name].items()) + "\n")
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
