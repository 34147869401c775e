"""`python -m model.bench_families`: every family at about 130M parameters, random float32 weights, in turns.

Reading (a chunk of the prompt) and generating one token, as the server does both, for one session far enough in that
windows are full; parameters and bytes of a session's state are the weights' and the specification's own. Medians over
the rounds. The last line is JSON. It knows nothing of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model.catalogue import FAMILIES
from model.costs import costs
from model.kernels import choose_ops
from model.registry import ARCHITECTURES
from model.state import Model, State

READ, GENERATED = 256, 32  # tokens of a turn
FULL = 1024  # tokens before, at least: more than any window here but the hybrid's, which is cut to fit
# Where the published size is another: RSM's is a tenth, the hybrid's window would take minutes to fill.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "hybrid": {"sliding_window_size": 512},
    "rsm": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 512},
}


class Drawn:
    """Random weights of whatever name and shape is asked for."""

    def __init__(self) -> None:
        self._g = torch.Generator().manual_seed(0)

    def names(self) -> Sequence[str]:
        """None: what may be absent is."""
        return []

    def expect(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 0.02²), but norms of one."""
        del name
        if len(shape) == 1:
            return torch.ones(shape)
        return torch.randn(shape, generator=self._g) * 0.02


def build(family: str) -> tuple[Model, int]:
    """The family's model and its parameters."""
    [known] = [one for one in FAMILIES if one.name == family]
    fields = {**known.shape, **CHANGES.get(family, {})}
    config = ARCHITECTURES[family].configure(fields, sliding_window_size=512)
    return ARCHITECTURES[family].model(config, Drawn(), choose_ops("auto")), costs(config).parameters


def turn(model: Model, state: State, count: int, chunk: int) -> float:
    """Tokens per second of so many tokens, in chunks."""
    tokens = torch.arange(count) % min(model.vocab_size, 500)
    began = time.perf_counter()
    for part in tokens.split(chunk):
        model.advance(part[None], torch.tensor([len(part)]), state)
    return count / (time.perf_counter() - began)


def measure(families: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Figures by family."""
    built = {family: build(family) for family in families}
    states = {family: State.zeros(model.spec, 1) for family, (model, _) in built.items()}
    for family, (model, _) in built.items():
        turn(model, states[family], FULL, READ)
    found: dict[str, tuple[list[float], list[float]]] = {family: ([], []) for family in families}
    for _ in range(rounds):
        for family, (model, _) in built.items():
            found[family][0].append(turn(model, states[family], READ, READ))
            found[family][1].append(turn(model, states[family], GENERATED, 1))
    return {
        family: {
            "parameters": built[family][1],
            "state_bytes": built[family][0].spec.nbytes,
            "read_tokens_s": round(statistics.median(read), 1),
            "generate_tokens_s": round(statistics.median(generated), 1),
        }
        for family, (read, generated) in found.items()
    }


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m model.bench_families", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each family has its turn (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each family")
    parser.add_argument("--family", action="append", choices=list(ARCHITECTURES), help="one family only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        report = measure(args.family or list(ARCHITECTURES), args.rounds)
    for family, figures in report.items():
        sys.stdout.write(f"{family}: " + ", ".join(f"{name} {value:,}" for name, value in figures.items()) + "\n")
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
