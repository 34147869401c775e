"""What an evaluation is asked for: its flags, once, for the command line and for whoever calls it from Python.

Light to import: the command line builds its help from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

PARTS = ("recall", "mqar", "perplexity", "clean")
AGAINST = ("window", "full")
FORMS = ("plain", "chat")
FILLERS = ("repeated", "varied")
SUMMARY = "Measure what the model's memory recalls, beside the model without it."
EPILOG = (
    "Results are kept after every cell in OUT/results.json, with a table (results.md) and plots beside it: an "
    "interrupted run goes on where it was when the command is given again, and runs with other distances, facts or "
    "more stories add to it. The needles, names, templates and filler are held out of all training. "
    "Example: perennial evaluate --quick; then: perennial evaluate --distances 1,10,100 --facts 1,4,16 --stories 8"
)


@dataclass(frozen=True, slots=True)
class Options:
    """See `add_arguments` for what each means."""

    out: Path = Path("evaluation")
    parts: tuple[str, ...] = ("recall", "mqar", "perplexity")
    distances: tuple[int, ...] = (1, 10, 100)
    facts: tuple[int, ...] = (1, 4, 16)
    forms: tuple[str, ...] = FORMS
    fillers: tuple[str, ...] = FILLERS
    pairs: tuple[int, ...] = (4, 16, 64)
    stories: int = 4
    templates: tuple[str, ...] = ()
    cuts: tuple[tuple[float, int], ...] = ((0.99, 0), (0.95, 0), (1.0, 1), (1.0, 4))
    against: tuple[str, ...] = AGAINST
    full_attention_tokens: int = 8192
    perplexity_tokens: int = 65_536
    perplexity_texts: int = 2
    perplexity_judged: int = 256
    corpus: str = ""
    seed: int = 0
    chunk: int = 256
    rows: int = 4
    state_bytes: int = 2 << 30
    tokens_budget: int = 0
    fresh: bool = False
    plots: bool = True

    def quick(self) -> Options:
        """A first look, in minutes."""
        return replace(
            self,
            distances=(1, 4),
            facts=(4,),
            fillers=("varied",),
            pairs=(16,),
            stories=2,
            perplexity_tokens=4096,
            perplexity_texts=1,
            perplexity_judged=128,
        )


def _several(one: Callable[[str], Any], among: tuple[str, ...] = ()) -> Callable[[str], tuple[Any, ...]]:
    """A comma-separated list; among: the words there are."""

    def parse(text: str) -> tuple[Any, ...]:
        values = tuple(dict.fromkeys(one(part.strip()) for part in text.split(",") if part.strip()))
        if among and (strange := [value for value in values if value not in among]):
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(among)}")
        return values

    return parse


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return parse


def _cut(text: str) -> tuple[float, int]:
    energy, _, drop = text.partition(":")
    try:
        value = float(energy), int(drop or 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ENERGY or ENERGY:DROP, as in 0.95 or 1:4") from None
    if not 0.0 < value[0] <= 1.0 or value[1] < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r}: the energy is more than 0 and at most 1, what is dropped 0 or more"
        )
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `perennial evaluate`, beside the settings it shares with other commands."""
    default = Options()

    def flag(name: str, kind: Callable[[str], Any], metavar: str, described: str) -> None:
        value = getattr(default, name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=f"{described} [default {shown}]" if value not in ("", ()) else described,
        )

    count, natural = _whole(1), _whole(0)
    flag("out", Path, "DIR", "where results.json, results.md and the plots go")
    flag("parts", _several(str, PARTS), "LIST", f"what to measure, of {','.join(PARTS)}")
    flag("distances", _several(count), "LIST", "windows between the last fact and the question")
    flag("facts", _several(count), "LIST", "facts of a story, 1 to 64 each")
    flag("forms", _several(str, FORMS), "LIST", "how facts are told and asked for")
    flag("fillers", _several(str, FILLERS), "LIST", "one sentence over and over, or text that varies")
    flag("pairs", _several(count), "LIST", "key-value pairs of associative recall")
    flag("stories", count, "N", "stories of each kind; each asks about all its facts")
    flag("templates", _several(str), "LIST", "only these of the held-out templates [default all]")
    parser.add_argument(
        "--cuts",
        type=_several(_cut),
        default=argparse.SUPPRESS,
        metavar="LIST",
        help="what part clean keeps of the memory, ENERGY or ENERGY:DROP each [default 0.99,0.95,1:1,1:4]",
    )
    flag("against", _several(str, AGAINST), "LIST", "what to compare with: no memory; attention to the whole text")
    flag("full_attention_tokens", count, "N", "full attention only to texts that fit in so many tokens")
    flag("perplexity_tokens", count, "N", "positions that perplexity is measured to, up to a million")
    flag("perplexity_texts", count, "N", "texts of that length")
    flag("perplexity_judged", count, "N", "tokens judged in each bucket of positions")
    flag(
        "corpus",
        str,
        "PATH",
        "text for varied filler and perplexity: a file; a folder, of which the held-out tenth is read; or made, for "
        "sentences made here [default: Debian's linux-doc where it is installed, else made]",
    )
    flag("seed", natural, "N", "of facts, filler and texts")
    flag("chunk", count, "N", "tokens read at a time")
    flag("rows", count, "N", "texts read side by side")
    flag("state_bytes", count, "N", "memory for states, which bounds that")
    flag("tokens_budget", natural, "N", "leave out the farthest distances where more would be read; 0 = no bound")
    parser.add_argument(
        "--quick", action="store_true", help="a first look: few cells, near distances; flags still count"
    )
    parser.add_argument("--fresh", action="store_true", default=argparse.SUPPRESS, help="forget the results in OUT")
    parser.add_argument("--no-plots", dest="plots", action="store_false", default=argparse.SUPPRESS, help="no plots")


def from_arguments(given: Mapping[str, Any]) -> Options:
    """The options of a parsed command line."""
    options = Options().quick() if given.get("quick") else Options()
    named = {f.name: given[f.name] for f in fields(Options) if f.name in given}
    for name in ("distances", "facts", "pairs"):
        if name in named:
            named[name] = tuple(sorted(named[name]))
    return replace(options, **named)
