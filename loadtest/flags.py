"""The command line's flags, each with its bounds, so that a mistyped figure is refused instead of obeyed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtest.workload import Range

KEY_VARIABLE = "LOADTEST_API_KEY"
KEY_HELP = "the environment variable that has the key; of a server --beside, this with _ and its name in capitals"
MOST_TURNS, MOST_USERS, MOST_RATE, MOST_S = 100_000, 4096, 1000.0, 86_400.0
COMMANDS = {
    "closed": "So many users, each of whom goes on when answered.",
    "open": "Conversations that begin at a rate, whatever the server can do.",
    "long": "One conversation, on and on: first-token time by turn, with a picture.",
    "compare": "The closed run at several servers in turn: medians and ratios.",
    "chaos": "Answers cut off and taken up again, while you kill what you like: is every token there, once?",
}
EPILOG = (
    "A key is taken from the environment, never from a flag. --api openai drives any server with OpenAI's chat API, "
    "the whole history sent again on each turn. The last line of the output is JSON."
)


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number within bounds."""

    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def real(least: float, most: float) -> Callable[[str], float]:
    """The same for any number."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number


def span(text: str) -> Range:
    """20 or 20:60."""
    match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise argparse.ArgumentTypeError(f"{text} is neither a number from 1 on nor two as 20:60")
    return Range(int(match[1]), int(match[2] or match[1]))


def extra(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return found


def address(text: str) -> str:
    """A server's address."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text} is not an address as http://127.0.0.1:8000")
    return text.rstrip("/")


def named(text: str) -> tuple[str, str]:
    """NAME=URL."""
    name, _, url = text.partition("=")
    if not name or not url:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=URL")
    return name, address(url)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="perennial-loadtest",
        description="Load for a server of conversations, and what its users would see.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = {
        name: commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=EPILOG,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        for name, text in COMMANDS.items()
    }
    for name, command in made.items():
        _add_target(command)
        _add_workload(command, turns={"closed": 4, "open": 1, "long": 150, "compare": 2, "chaos": 3}[name])
    for name in ("closed", "compare"):
        made[name].add_argument("--conversations", type=whole(1, MOST_TURNS), default=16, help="in all")
        made[name].add_argument("--users", type=whole(1, MOST_USERS), default=4, help="conversations at a time")
    for name in ("closed", "open"):
        made[name].add_argument("--think-s", type=real(0, MOST_S), default=0.0, help="pause before each next turn, s")
    for name in ("closed", "open", "compare"):
        made[name].add_argument("--slo-ttft-s", type=real(0, MOST_S), default=1.0, help="a good first token, s")
        made[name].add_argument("--slo-gap-s", type=real(0, MOST_S), default=0.2, help="a good mean between tokens, s")
        made[name].add_argument("--slo-e2e-s", type=real(0, MOST_S), default=None, help="a good whole answer, s")
    made["open"].add_argument("--rate", type=real(0.001, MOST_RATE), default=1.0, help="conversations in a second")
    made["open"].add_argument("--duration-s", type=real(0.1, MOST_S), default=30.0, help="how long any begin, s")
    made["open"].add_argument("--in-flight", type=whole(1, MOST_USERS), default=512, help="at most so many at a time")
    made["compare"].add_argument("--rounds", type=whole(1, 100), default=3, help="of all servers")
    text = "first turns that the medians leave out, such as those before a window is full"
    made["long"].add_argument("--skip", type=whole(0, MOST_TURNS), default=0, help=text)
    made["long"].add_argument("--png", type=Path, default=None, help="draw the turns into this file")
    made["chaos"].add_argument("--conversations", type=whole(1, MOST_USERS), default=4, help="all at a time")
    made["chaos"].add_argument("--cuts", type=whole(0, 1000), default=5, help="of each answer, at most")
    made["chaos"].add_argument("--patience-s", type=real(0.1, MOST_S), default=60.0, help="without any news, s")
    for name in ("long", "compare"):
        text = "another server with OpenAI's chat API; may be given several times"
        made[name].add_argument("--beside", type=named, action="append", default=[], metavar="NAME=URL", help=text)
    return root


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", type=address, default="http://127.0.0.1:8000", help="the server")
    command.add_argument("--remote", action="store_true", help="allow a server that is not on this machine")
    command.add_argument("--api", choices=("native", "openai"), default="native", help="how to speak to it")
    command.add_argument("--model", default=None, help="its name at an OpenAI API; unset: the first it lists")
    command.add_argument("--key-variable", default=KEY_VARIABLE, help=KEY_HELP)
    command.add_argument("--extra", type=extra, default={}, metavar="JSON", help="more of each request's body")
    command.add_argument("--timeout-s", type=real(0.1, MOST_S), default=120.0, help="of one turn, s")
    command.add_argument("--limit-s", type=real(0.1, MOST_S), default=600.0, help="the run ends after so long, s")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_workload(command: argparse.ArgumentParser, turns: int) -> None:
    command.add_argument("--turns", type=whole(1, MOST_TURNS), default=turns, help="of each conversation")
    command.add_argument("--words", type=span, default="20:60", metavar="N[:M]", help="of what a user says")
    command.add_argument("--tokens", type=span, default="32:64", metavar="N[:M]", help="max_tokens of an answer")
    command.add_argument("--seed", type=whole(0, 2**31), default=0, help="of texts, lengths and arrivals")
