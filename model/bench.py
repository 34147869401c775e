"""`make bench`: decode and prefill speed beside llama.cpp and transformers, on the same weights, in one run.

The physical ceiling is measured first (bytes of weights over memory bandwidth), then the systems, each in a process of
its own, in turns, so that a machine whose speed drifts treats them alike; medians and ratios are to be trusted, not
single figures. The last line is JSON. What each system runs: ours the served default; llama.cpp the same GGUF file;
transformers the same weights as float32.

Needs the extra `bench`. It knows nothing of the server.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

WINDOW = 512
TEXT = "The history of the lighthouse is the history of the sea, and of those who looked for a light in the dark. "


class System(Protocol):
    """One way to run the model."""

    def prefill(self, tokens: Sequence[int]) -> None:
        """Begin anew and read these."""
        ...

    def step(self) -> None:
        """Read one more token and have the logits after it."""
        ...


class Perennial:
    """This project, as the server runs it."""

    def __init__(self, threads: int) -> None:
        import torch  # noqa: PLC0415

        from model.kernels import choose_ops  # noqa: PLC0415
        from model.registry import load_model  # noqa: PLC0415
        from model.state import State, as_rows  # noqa: PLC0415

        torch.set_num_threads(threads)
        self._as_rows = as_rows
        self._model = load_model("smollm2-135m", choose_ops("auto"), sliding_window_size=WINDOW).model
        self._state = State.zeros(self._model.spec, 1)

    def prefill(self, tokens: Sequence[int]) -> None:
        self._state.clear()
        for start in range(0, len(tokens), 256):
            self._model.advance(*self._as_rows([tokens[start : start + 256]]), self._state)

    def step(self) -> None:
        self._model.advance(*self._as_rows([[1]]), self._state)


class LlamaCpp:
    """llama.cpp through its Python binding; its own context, long enough for the longest position."""

    def __init__(self, threads: int) -> None:
        from llama_cpp import Llama  # noqa: PLC0415

        from model.source import locate  # noqa: PLC0415

        path = str(locate("smollm2-135m", weights=True))
        self._llama = Llama(path, n_ctx=8192, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False)

    def prefill(self, tokens: Sequence[int]) -> None:
        self._llama.reset()
        self._llama.eval(tokens)

    def step(self) -> None:
        self._llama.eval([1])


class Transformers:
    """transformers' Llama in float32, with its own key/value cache."""

    def __init__(self, threads: int) -> None:
        import torch  # noqa: PLC0415
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        from model.source import locate  # noqa: PLC0415

        torch.set_num_threads(threads)
        self._torch = torch
        path = locate("smollm2-135m", weights=True)
        self._model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        self._cache: Any = None

    def _read(self, tokens: Sequence[int]) -> None:
        with self._torch.inference_mode():
            ids = self._torch.tensor([list(tokens)])
            out = self._model(ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values

    def prefill(self, tokens: Sequence[int]) -> None:
        self._cache = None
        self._read(tokens)

    def step(self) -> None:
        self._read([1])


SYSTEMS: dict[str, Callable[[int], System]] = {
    "perennial": Perennial,
    "llama.cpp": LlamaCpp,
    "transformers": Transformers,
}


@dataclass(frozen=True, slots=True)
class Task:
    """What is timed: reading `position` tokens (prefill), or `steps` tokens after them (decode)."""

    name: str
    position: int
    steps: int

    def run(self, system: System, tokens: Sequence[int]) -> float:
        """Tokens per second."""
        began = time.perf_counter()
        system.prefill(tokens[: self.position])
        if self.steps == 0:
            return self.position / (time.perf_counter() - began)
        system.step()
        began = time.perf_counter()
        for _ in range(self.steps):
            system.step()
        return self.steps / (time.perf_counter() - began)


TASKS = (
    Task("prefill 512", 512, 0),
    Task("decode at 64", 64, 48),
    Task("decode at 512", 512, 48),
    Task("decode at 6000", 6000, 32),
)


def child(name: str, threads: int, tokens: Sequence[int], pipe: Connection) -> None:
    """One system's process: a task's index in, tokens per second out."""
    system = SYSTEMS[name](threads)
    Task("warm up", 64, 4).run(system, tokens)
    pipe.send("ready")
    while (index := pipe.recv()) is not None:
        pipe.send(TASKS[index].run(system, tokens))


def bandwidth() -> float:
    """GB/s of reading memory with all cores, the best of several passes over 512 MB."""
    import torch  # noqa: PLC0415

    block = torch.ones(128 * 2**20)
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        block.sum()
        best = max(best, block.nbytes / (time.perf_counter() - began) / 1e9)
    return best


def main() -> int:
    """Run and print. Exit code 1 where a peer is not installed."""
    parser = argparse.ArgumentParser(prog="python -m model.bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each system has its turn (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each system")
    parser.add_argument("--without", action="append", default=[], choices=list(SYSTEMS), help="leave a system out")
    args = parser.parse_args()

    from model.source import locate  # noqa: PLC0415
    from model.tokenizer import load_tokenizer  # noqa: PLC0415

    tokens = (load_tokenizer("smollm2-135m", None).encode(TEXT, specials=False) * 400)[:6000]
    weights = locate("smollm2-135m", weights=True).stat().st_size
    speed = bandwidth()
    ceiling = speed * 1e9 / weights
    say = sys.stdout.write
    say(f"{platform.machine()}, {args.threads} threads, {args.rounds} rounds; SmolLM2-135M-Instruct Q4_1\n")
    say(f"ceiling  {weights / 1e6:.0f} MB of weights a step at {speed:.1f} GB/s = {ceiling:.0f} tokens/s decode\n")

    context = mp.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in (n for n in SYSTEMS if n not in args.without):
        ours, theirs = context.Pipe()
        context.Process(target=child, args=(name, args.threads, tokens, theirs), daemon=True).start()
        theirs.close()
        try:
            ours.recv()
        except EOFError:
            say(f"{name} could not be started: is the extra `bench` installed? (`make bench` does)\n")
            return 1
        pipes[name] = ours

    figures: dict[str, dict[str, list[float]]] = {t.name: {n: [] for n in pipes} for t in TASKS}
    for turn in range(args.rounds):
        for index, task in enumerate(TASKS):
            for name, pipe in pipes.items():
                pipe.send(index)
                figures[task.name][name].append(pipe.recv())
            sys.stderr.write(f"\rround {turn + 1}/{args.rounds}  {task.name:<16}")
    sys.stderr.write("\n")
    for pipe in pipes.values():
        pipe.send(None)

    report: dict[str, Any] = {"ceiling_decode": round(ceiling, 1), "bandwidth_gb_s": round(speed, 1), "tasks": {}}
    say(f"{'tokens/s, median':<18}" + "".join(f"{n:>14}" for n in pipes) + "   ours against each, median of rounds\n")
    for task in TASKS:
        medians = {n: statistics.median(v) for n, v in figures[task.name].items()}
        ours_each = figures[task.name].get("perennial", [])
        ratios = {
            n: statistics.median(a / b for a, b in zip(ours_each, v, strict=True))
            for n, v in figures[task.name].items()
            if n != "perennial" and ours_each
        }
        against = "  ".join(f"{n} {r:.2f}x" for n, r in ratios.items())
        say(f"{task.name:<18}" + "".join(f"{medians[n]:>14.1f}" for n in pipes) + f"   {against}\n")
        report["tasks"][task.name] = {
            "median": {n: round(m, 1) for n, m in medians.items()},
            "ratio": {n: round(r, 2) for n, r in ratios.items()},
        }
    say(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
