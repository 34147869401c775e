"""`perennial assemble`: an SMT made of a pretrained GPT-2 and a pretrained Mamba. Light to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SUMMARY = "Make an SMT of a pretrained GPT-2 and a pretrained Mamba, and say what of them was loaded."
EPILOG = (
    "What has no source begins at random: the pooling always, so that the model is to be trained. Without --mamba the "
    "whole Mamba stack does. Example: perennial assemble gpt2 --mamba state-spaces/mamba-130m-hf --out smt"
)
_FIELDS = {"n_ssm_outputs": "n", "m_input_tokens": "m", "stride": "stride"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `perennial assemble`."""
    parser.add_argument("gpt2", metavar="GPT2", help="a directory or hub name")
    parser.add_argument("--mamba", metavar="MAMBA", help="a directory or hub name, as wide as the GPT-2")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the checkpoint goes")
    parser.add_argument("--n", type=int, metavar="N", help="SSM outputs in a window [default 15]")
    parser.add_argument("--m", type=int, metavar="N", help="tokens in a window [default 50]")
    parser.add_argument("--stride", type=int, metavar="N", help="tokens from one write to the next [default 16]")
    parser.add_argument(
        "--seed", type=int, dest="assemble_seed", default=0, metavar="N", help="of what is drawn [default 0]"
    )


def run(given: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Make it. Raises ValueError (as `WeightsError`) for what does not fit, OSError where it can't be written."""
    from model.smt_import import assemble  # noqa: PLC0415

    fields = {field: given[flag] for field, flag in _FIELDS.items() if given[flag] is not None}
    report = assemble(given["gpt2"], given["mamba"], given["out"], seed=given["assemble_seed"], **fields)
    say(str(report))
    say(f"{given['out']}: serve it with perennial serve --model {given['out']}")
