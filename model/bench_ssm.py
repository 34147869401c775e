"""`python -m model.bench_ssm`: Mamba and Mamba-2 of 130M parameters, random weights, beside `transformers` and a loop.

Three systems on the same float32 weights, in turns in one process: ours as it is served; `transformers`' own classes;
and what a straightforward implementation does, one `advance` of the plain backend (`ref`) per token in a Python loop.
Prefill is 2,048 tokens, ours in chunks of 256 as the server reads them; what a token costs the others does not depend
on where it stands (the state has one size), so they are timed over fewer. On a busy machine torch's threads wait for
each other, ours do not: there, `--threads 1` is the fair comparison. Also the recurrence alone (convolution and
scan of one layer): compiled against the loop over tokens that is its reference, every head and channel of a token at
once. Medians and ratios are to be trusted. The last line is JSON.

It knows nothing of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model.kernels import Ops, choose_ops
from model.mamba import Config as MambaConfig
from model.mamba import Mamba
from model.mamba2 import Config as Mamba2Config
from model.mamba2 import Mamba2
from model.selective_scan import Selective
from model.ssd import Dual
from model.state import Model, State

PREFILL, CHUNK, DECODE = 2048, 256, 32  # tokens
PEER = 512  # of them, that `transformers` reads: its Mamba-1 goes through them one by one
LOOP, LOOP_OP = 24, 256  # tokens over which a loop is timed: the whole model, one layer's recurrence
FAMILIES = ("mamba", "mamba2")

SIZES: dict[str, dict[str, Any]] = {
    "mamba": {"vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24, "tie_word_embeddings": True},
    "mamba2": {
        "vocab_size": 50288,
        "hidden_size": 768,
        "num_hidden_layers": 24,
        "tie_word_embeddings": True,
        "num_heads": 24,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 1,
    },
}


class Weights:
    """A `transformers` model's parameters, as a checkpoint gives them."""

    def __init__(self, model: Any) -> None:
        self._tensors: dict[str, Tensor] = {name: t.detach() for name, t in model.state_dict().items()}

    def names(self) -> Sequence[str]:
        """Names of all tensors."""
        return list(self._tensors)

    def expect(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name and shape."""
        assert tuple(self._tensors[name].shape) == shape, name
        return self._tensors[name]


def theirs(family: str) -> Any:
    """`transformers`' model, as it initialises one."""
    import transformers  # noqa: PLC0415  # seconds, and only here

    torch.manual_seed(0)
    kind = family.capitalize()
    config = getattr(transformers, f"{kind}Config")(**SIZES[family])
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def ours(family: str, weights: Weights, ops: Ops) -> Model:
    """The same weights on a backend of ours."""
    if family == "mamba":
        return Mamba(MambaConfig.from_hf(SIZES[family]), weights, ops)
    return Mamba2(Mamba2Config.from_hf(SIZES[family]), weights, ops)


def per_second(tokens: int, run: Callable[[], object]) -> float:
    """Tokens per second of one run."""
    began = time.perf_counter()
    run()
    return tokens / (time.perf_counter() - began)


def read(model: Model, state: State, tokens: Tensor, chunk: int) -> None:
    """tokens (T,) into a state of one row, a chunk at a time."""
    for part in tokens.split(chunk):
        model.advance(part[None], torch.tensor([len(part)]), state)


def serve(model: Model, state: State, tokens: Tensor, chunk: int) -> None:
    """`read` as a worker does: the backend has threads of its own, what is left to torch is small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    read(model, state, tokens, chunk)
    torch.set_num_threads(threads)


def whole_model(family: str, rounds: int) -> dict[str, Any]:
    """Tokens per second of each system, and what a session's state takes."""
    peer = theirs(family)
    weights = Weights(peer)
    fast, plain = ours(family, weights, choose_ops("cpu")), ours(family, weights, choose_ops("ref"))
    tokens = torch.randint(0, fast.vocab_size, (PREFILL,), generator=torch.Generator().manual_seed(1))
    state, loop = State.zeros(fast.spec, 1), State.zeros(plain.spec, 1)

    @torch.inference_mode()
    def peer_decodes(cache: Any) -> None:
        for token in tokens[:DECODE]:
            peer(token[None, None], cache_params=cache, use_cache=True)

    @torch.inference_mode()
    def peer_reads(count: int) -> Any:
        return peer(tokens[None, :count], use_cache=True, logits_to_keep=1).cache_params

    found: dict[str, list[float]] = {name: [] for name in ("prefill", "prefill_transformers", "prefill_loop")}
    found |= {name: [] for name in ("decode", "decode_transformers")}
    for turn in range(rounds + 1):
        figures = {
            "prefill": per_second(PREFILL, lambda: serve(fast, state, tokens, CHUNK)),
            "prefill_loop": per_second(LOOP, lambda: read(plain, loop, tokens[:LOOP], 1)),
            "prefill_transformers": per_second(PEER, lambda: peer_reads(PEER)),
            "decode": per_second(DECODE, lambda: serve(fast, state, tokens[:DECODE], 1)),
        }
        cache = peer_reads(CHUNK)
        figures["decode_transformers"] = per_second(DECODE, partial(peer_decodes, cache))
        for name, figure in figures.items() if turn else ():  # the first round warms up
            found[name].append(figure)
    medians = {name: statistics.median(values) for name, values in found.items()}
    parameters = sum(weights.expect(n, tuple(t.shape)).numel() for n, t in peer.named_parameters())
    return {
        "parameters": parameters,
        "state_bytes": fast.spec.nbytes,
        **{f"{name}_tokens_s": round(value, 1) for name, value in medians.items()},
        "prefill_against_loop": round(_ratio(found["prefill"], found["prefill_loop"]), 1),
        "prefill_against_transformers": round(_ratio(found["prefill"], found["prefill_transformers"]), 2),
        "decode_against_transformers": round(_ratio(found["decode"], found["decode_transformers"]), 2),
    }


def _ratio(a: Sequence[float], b: Sequence[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def recurrence(family: str, ops: Ops, tokens: int) -> Callable[[], None]:
    """Convolution and scan of one layer over a row of so many tokens, from an empty state."""
    g = torch.Generator().manual_seed(2)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    length = torch.tensor([tokens])
    if family == "mamba":
        d, N = 1536, 16
        xz, dt, low, taps = rand(tokens, 2 * d), rand(tokens, d) - 2, rand(tokens, 2 * N), rand(4, d)
        fixed = Selective(-torch.exp(rand(N, d)), rand(d), rand(d) - 3)

        def scan() -> None:
            x = ops.causal_conv(xz[:, :d], taps, None, state=torch.zeros(1, 3, d), lengths=length)
            h = torch.zeros(1, N, d)
            ops.selective_scan(x, dt, low[:, :N], low[:, N:], xz[:, d:], fixed, state=h, lengths=length)

        return scan
    H, P, N = 24, 64, 128
    xBC, dt, taps = rand(tokens, H * P + 2 * N), rand(tokens, H) - 2, rand(4, H * P + 2 * N)
    dual = Dual(-torch.exp(rand(H)), rand(H), rand(H))

    def ssd() -> None:
        u = ops.causal_conv(xBC, taps, None, state=torch.zeros(1, 3, H * P + 2 * N), lengths=length)
        x, B, C = u.split((H * P, N, N), dim=1)
        ops.ssd(x, dt, B, C, dual, state=torch.zeros(1, H, N, P), lengths=length)

    return ssd


def recurrence_alone(family: str, rounds: int) -> dict[str, float]:
    """Tokens per second of one layer's recurrence, compiled and as a Python loop."""
    fast, plain = recurrence(family, choose_ops("cpu"), PREFILL), recurrence(family, choose_ops("ref"), LOOP_OP)
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        figures = per_second(PREFILL, fast), per_second(LOOP_OP, plain)
        if turn:
            found[0].append(figures[0])
            found[1].append(figures[1])
    return {
        "recurrence_tokens_s": round(statistics.median(found[0]), 0),
        "recurrence_loop_tokens_s": round(statistics.median(found[1]), 0),
        "recurrence_against_loop": round(_ratio(*found), 1),
    }


def measure(rounds: int = 5, threads: int | None = None, families: Sequence[str] = FAMILIES) -> dict[str, Any]:
    """All figures, by family. threads: of every system; where None, as many as there are processors."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    with torch.inference_mode():
        return {family: recurrence_alone(family, rounds) | whole_model(family, rounds) for family in families}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m model.bench_ssm", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each system has its turn (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each system")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="one family only")
    args = parser.parse_args()
    report = measure(args.rounds, args.threads, args.family or FAMILIES)
    say = sys.stdout.write
    for family, figures in report.items():
        say(f"{family}: {figures['parameters'] / 1e6:.0f} M parameters, {args.threads} threads\n")
        for name, figure in figures.items():
            if name != "parameters":
                say(f"  {name:<34}{figure:>14,}\n")
    say(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
