"""`perennial-loadtest` and `python -m loadtest`: flags in, a table and a last line of JSON out.

Exit codes: 0 where answers came whole (`chaos`: all of them), 1 where none did, 2 for flags that are wrong or a server
that cannot be tested.
SIGINT and SIGTERM end a run early; what was measured is told all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from loadtest import chaos, compare, long, report
from loadtest.client import Target, TargetError, connections, known
from loadtest.flags import MOST_TURNS, parser
from loadtest.run import Closed, Open, run
from loadtest.stats import Outcome, Slo, Summary, summarise
from loadtest.workload import Workload


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    root = parser()
    asked = root.parse_args(argv)
    given = {"server": asked.url, **dict(getattr(asked, "beside", ()))}
    if len(given) <= len(getattr(asked, "beside", ())):
        root.error("--beside: every server needs a name of its own, other than server")
    for url in given.values():
        if not asked.remote and not _loopback(url):
            root.error(f"{url} is not on this machine; say --remote if it is yours to load")
    if asked.command == "chaos" and asked.api != "native":
        root.error("chaos: only Perennial's own API can be taken up again")
    if asked.command in ("closed", "compare", "chaos") and asked.conversations * asked.turns > MOST_TURNS:
        root.error(f"more than {MOST_TURNS} turns in all")
    if asked.command == "long" and asked.png is not None and not _can_draw():
        root.error("--png needs matplotlib: pip install 'perennial[plots]'")
    try:
        return asyncio.run(_Command(asked, given).run())
    except TargetError as error:
        sys.stderr.write(f"{root.prog}: {error}\n")
        return 2


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _can_draw() -> bool:
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        return False
    return True


class _Command:
    """One command, once its flags are known to be right."""

    def __init__(self, asked: argparse.Namespace, given: Mapping[str, str]) -> None:
        self.asked = asked
        self.workload = Workload(asked.turns, asked.words, asked.tokens, asked.seed)
        key = os.environ.get(asked.key_variable) or None
        first, *others = given.items()
        self.targets = {
            first[0]: Target(first[1], asked.api, asked.model, key, asked.extra, asked.timeout_s),
            **{name: self._peer(name, url) for name, url in others},
        }
        self.stop = asyncio.Event()

    def _peer(self, name: str, url: str) -> Target:
        key = os.environ.get(f"{self.asked.key_variable}_{name.upper()}") or None
        return Target(url, "openai", key=key, timeout_s=self.asked.timeout_s)

    @property
    def slo(self) -> Slo:
        return Slo(self.asked.slo_ttft_s, self.asked.slo_gap_s, self.asked.slo_e2e_s)

    async def run(self) -> int:
        """The exit code. Raises TargetError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop.set)
        async with connections() as http:
            self.targets = {name: await known(http, target) for name, target in self.targets.items()}
        made: Mapping[str, Callable[[], Any]] = {
            "closed": self._once,
            "open": self._once,
            "long": self._long,
            "compare": self._compare,
            "chaos": self._chaos,
        }
        code: int = await made[self.asked.command]()
        return code

    def _bar(self, total: float, unit: str) -> tqdm[Any]:
        return tqdm(total=total, unit=unit, disable=self.asked.quiet, leave=False, dynamic_ncols=True)

    def _last(self, **more: Any) -> None:
        said = {name: {"url": one.url, "api": one.api, "model": one.model} for name, one in self.targets.items()}
        print(report.last_line(self.asked.command, servers=said, workload=asdict(self.workload), **more))

    async def _once(self) -> int:
        asked = self.asked
        how: Closed | Open
        if asked.command == "closed":
            how = Closed(asked.conversations, asked.users, asked.think_s)
            total = asked.conversations * asked.turns
        else:
            how = Open(asked.rate, asked.duration_s, asked.in_flight, asked.think_s)
            total = round(asked.rate * asked.duration_s * asked.turns)
        with self._bar(total, " turns") as bar:
            course = await run(
                self.targets["server"],
                self.workload,
                how,
                limit_s=asked.limit_s,
                stop=self.stop,
                heard=lambda _: void(bar.update()),
            )
        found = summarise(course.outcomes, course.seconds, self.slo, course.unfinished)
        print(report.summary(found, self.slo))
        self._last(load=asdict(how), slo=asdict(self.slo), summary=report.figures(found))
        return 0 if found.whole else 1

    async def _long(self) -> int:
        asked = self.asked
        with self._bar(asked.turns * len(self.targets), " turns") as bar:

            def heard(name: str, outcome: Outcome) -> None:
                bar.set_postfix_str(f"{name} {report.seconds(outcome.ttft_s)}", refresh=False)
                bar.update()

            said = await long.talk(self.targets, self.workload, limit_s=asked.limit_s, stop=self.stop, heard=heard)
        print(report.trends(said, asked.skip))
        if asked.png is not None:
            from loadtest.figure import draw  # noqa: PLC0415 - needs an optional extra

            draw(said, asked.png)
            print(f"drawn into {asked.png}")
        self._last(skip=asked.skip, turns={name: report.points(some, asked.skip) for name, some in said.items()})
        return 0 if any(one.error is None for some in said.values() for one in some) else 1

    async def _compare(self) -> int:
        asked = self.asked
        total = asked.rounds * len(self.targets) * asked.conversations * asked.turns
        with self._bar(total, " turns") as bar:
            found: dict[str, list[Summary]] = await compare.rounds(
                self.targets,
                self.workload,
                Closed(asked.conversations, asked.users),
                self.slo,
                count=asked.rounds,
                limit_s=asked.limit_s,
                stop=self.stop,
                heard=lambda _: void(bar.update()),
            )
        print(report.comparison(found))
        self._last(rounds={name: [report.figures(one) for one in some] for name, some in found.items()})
        return 0 if any(one.whole for some in found.values() for one in some) else 1

    async def _chaos(self) -> int:
        asked = self.asked
        total = asked.conversations * asked.turns
        with self._bar(total, " answers") as bar:
            found = await chaos.cut(
                self.targets["server"],
                self.workload,
                conversations=asked.conversations,
                cuts=asked.cuts,
                patience_s=asked.patience_s,
                limit_s=asked.limit_s,
                stop=self.stop,
                judged=lambda _: void(bar.update()),
            )
        print(report.verdicts(found, total))
        self._last(asked=total, verdicts=[asdict(one) for one in found])
        return 0 if len(found) == total and all(one.wrong is None for one in found) else 1


def void(_: object) -> None:
    """For a callback whose caller wants nothing back."""
