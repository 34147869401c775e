"""`perennial models`: what can be served, what it costs, and what it remembers by design.

Light to import: what knows torch comes with the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUMMARY = "List what can be served: its parameters, bytes of a session's state, and what it remembers by design."
EPILOG = (
    "Without MODEL: every family, at the size it is published in. With: those models as they are. Arithmetic is FLOPs "
    "of one generated token with full windows, state is bytes of a session however long it is."
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Family:
    """One family. comes: how its weights arrive; remembers: what of a conversation is left, however long ago. shape:
    the fields of a config.json of the published size, and its name."""

    name: str
    comes: str
    remembers: str
    published: str
    shape: Mapping[str, Any]


FAMILIES = (
    Family(
        "senri",
        "any Llama of Hugging Face's layout, or GGUF; senri with a memory",
        "the last 512 tokens and the first 4 exactly; what its memory layers were taught to keep",
        "SmolLM2-135M, window 512",
        {
            "model_type": "llama",
            "vocab_size": 49_152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "tie_word_embeddings": True,
            "sliding_window_size": 512,
        },
    ),
    Family(
        "mamba",
        "state-spaces/mamba-*, its -hf form",
        "a gist of everything, fading; nothing exactly",
        "mamba-130m",
        {"model_type": "mamba", "vocab_size": 50_280, "hidden_size": 768, "num_hidden_layers": 24},
    ),
    Family(
        "mamba2",
        "state-spaces/mamba2-*, its -hf form",
        "a gist of everything, fading, in states seven times larger; nothing exactly",
        "mamba2-130m",
        {
            "model_type": "mamba2",
            "vocab_size": 50_288,
            "hidden_size": 768,
            "num_hidden_layers": 24,
            "num_heads": 24,
            "n_groups": 1,
            "tie_word_embeddings": True,
        },
    ),
    Family(
        "hybrid",
        "perennial_hybrid",
        "the window exactly, a fading gist of everything before",
        "Samba's pattern at 130M, window 2,048",
        {
            "model_type": "perennial_hybrid",
            "vocab_size": 50_280,
            "hidden_size": 640,
            "num_hidden_layers": 20,
            "intermediate_size": 1728,
            "num_attention_heads": 10,
        },
    ),
    Family(
        "smt",
        "smt; assembled from a GPT-2 and a Mamba",
        "the last 50 tokens exactly, 15 summaries of what was in the window before, a Mamba's gist of those",
        "GPT-2 small with mamba-130m's layers",
        {"model_type": "smt", "vocab_size": 50_257},
    ),
    Family(
        "rsm",
        "rsm",
        "its chunk of up to 512 tokens exactly, 32 slots a layer that are rewritten at every chunk's end",
        "the seed's shape, characters",
        {"model_type": "rsm", "vocab_size": 512},
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. state_bytes: of a session, windows in 16 bits."""

    family: str
    model: str
    parameters: int
    state_bytes: int
    flops: float


def row(family: str, model: str, config: Mapping[str, Any], **overrides: Any) -> Row:
    """What a config.json's fields come to. Raises `WeightsError` for one that does not fit."""
    import torch  # noqa: PLC0415

    from model.costs import costs  # noqa: PLC0415
    from model.registry import ARCHITECTURES  # noqa: PLC0415

    configured = ARCHITECTURES[family].configure(config, **overrides)
    spec = configured.state_spec(torch.bfloat16) if family in _IN_16_BITS else configured.state_spec()
    cost = costs(configured)
    return Row(family, model, cost.parameters, spec.nbytes, cost.flops)


_IN_16_BITS = {"senri", "hybrid", "rsm"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `perennial models`."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a directory, a .gguf file, a hub name")
    parser.add_argument("--window", type=int, metavar="N", help="sliding window of a Llama [default: 512]")


def run(given: Mapping[str, Any], say: Say) -> None:
    """Print the table. Raises ValueError (as `WeightsError`) for a model that can't be served."""
    from model.registry import architecture_of  # noqa: PLC0415
    from model.weights import open_checkpoint  # noqa: PLC0415

    window = {"sliding_window_size": given["window"] or 512}
    families = {family.name: family for family in FAMILIES}
    if given["models"]:
        opened = [(model, open_checkpoint(model)) for model in given["models"]]
        rows = [row(architecture_of(c), model, c.config, **window) for model, c in opened]
    else:
        rows = [row(family.name, family.published, family.shape, **window) for family in FAMILIES]
    head = ("family", "model", "parameters", "state", "arithmetic")
    say(_table([head, *((r.family, r.model, *_figures(r)) for r in rows)]))
    for name in dict.fromkeys(r.family for r in rows):
        say(f"\n{name}: {families[name].comes}\n    remembers {families[name].remembers}")


def _figures(r: Row) -> tuple[str, str, str]:
    return f"{r.parameters / 1e6:.1f} M", f"{r.state_bytes:,} bytes", f"{r.flops / 1e6:,.0f} MFLOP"


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
