"""The command line: `perennial serve | api | worker`, and what runs here and now: generate, evaluate, train and others.

Flags are made from the fields of `Settings` (argparse, 40 lines): one source for the flag, its variable, its default
and its help. `pydantic-settings`' own command line was tried and left: it repeats every flag under every command
whether it means anything there or not, does not show the variables, and reports errors with a traceback.

Exit codes: 0 after a clean end, 1 when something could not be started, 2 for settings or flags that are wrong,
128 + signal when a second signal cut the end short.

It wires things together and knows how none of them works. Heavy modules are imported by the command that needs them.
"""

import argparse
import asyncio
import difflib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from model import catalogue, smt_command
from model.training import options as evaluation
from model.training.trainer import command as training
from server import inspection
from server.access import digest_of, is_entry, new_key
from server.errors import PerennialError, StartupError
from server.logs import configure_logging
from server.net import address, bind
from server.settings import PREFIX, Settings, SettingsError, allowed, load_settings
from server.tracing import open_tracing


@dataclass(frozen=True, slots=True)
class Offline:
    """A command that takes none of the settings: what it is, its flags, and what it does with them."""

    summary: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Mapping[str, Any], Callable[[str], None]], None]


OFFLINE = {
    **{
        name: Offline(summary, training.EPILOG, partial(training.add_arguments, name), partial(training.run, name))
        for name, summary in training.SUMMARIES.items()
    },
    "assemble": Offline(smt_command.SUMMARY, smt_command.EPILOG, smt_command.add_arguments, smt_command.run),
    "models": Offline(catalogue.SUMMARY, catalogue.EPILOG, catalogue.add_arguments, catalogue.run),
    "inspect": Offline(inspection.SUMMARY, inspection.EPILOG, inspection.add_arguments, inspection.inspect),
}
COMMANDS = {
    "serve": "Everything on this machine: Valkey (unless PERENNIAL_REDIS_URL is set), a worker, the API.",
    "api": "Only the HTTP API; needs PERENNIAL_REDIS_URL. Any number of them.",
    "worker": "Only a worker, which computes; needs PERENNIAL_REDIS_URL. One per device.",
    "generate": "Complete a text here and now, without server or session.",
    "evaluate": evaluation.SUMMARY,
    **{name: offline.summary for name, offline in OFFLINE.items()},
    "key": "Make an API key: show it this once, and the hash of it that is configured.",
}
LIKE = {"evaluate": "generate"}  # both run the model here and now, and take the same settings
EPILOG = (
    "Each setting is a flag, an environment variable or a line in ./.env, and counts in that order. "
    "Of an API key only its hash is configured: `perennial key` makes one."
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="perennial",
        description="An inference server for conversations that never end.",
        epilog="perennial COMMAND --help documents each setting of that command.",
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"perennial {version('perennial')}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        epilog = {
            "evaluate": f"{evaluation.EPILOG} {EPILOG}",
            **{name: offline.epilog for name, offline in OFFLINE.items()},
        }.get(name, EPILOG)
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=epilog.replace("%", "%%"), allow_abbrev=False
        )
        if name == "generate":
            _generate_arguments(sub)
        if name == "evaluate":
            evaluation.add_arguments(sub)
        if name in OFFLINE:
            OFFLINE[name].add_arguments(sub)
        if name == "key":
            sub.add_argument("--label", metavar="NAME", help="the tenant whose sessions it opens [default: its own]")
        group = sub.add_argument_group("settings")
        for flag in _flag_names(name):
            _add_setting(group, flag.replace("-", "_"))
        for hidden in ("--listen-fd", "--lifeline-fd"):  # what `serve` hands to its children
            sub.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    return root


def _flag_names(command: str) -> list[str]:
    """The settings a command takes, as flags without their dashes."""
    names = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        if LIKE.get(command, command) in str(extra["used_by"]).split():
            names.append(name.replace("_", "-"))
    return names


def _add_setting(group: "argparse._ArgumentGroup", name: str) -> None:
    field = Settings.model_fields[name]
    default = (
        "none"
        if field.default in (None, ())
        else str(field.default).lower()
        if field.annotation is bool
        else field.default
    )
    described = f"{field.description} [{PREFIX}{name.upper()}; default {default}]".replace("%", "%%")
    flag = "--" + name.replace("_", "-")
    if field.annotation is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=described)
        return
    choices = allowed(name).removeprefix("one of ").replace(", ", "|") if allowed(name).startswith("one of") else None
    group.add_argument(flag, default=argparse.SUPPRESS, metavar=choices or _kind(field.annotation), help=described)


def _kind(annotation: Any) -> str:
    return {int: "N", float: "X"}.get(annotation, "PATH" if "Path" in str(annotation) else "TEXT")


def _generate_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("text", help="what to complete; - reads it from standard input")
    sub.add_argument("--max-tokens", type=int, default=128, metavar="N", help="at most so many tokens [default 128]")
    sub.add_argument("--temperature", type=float, default=0.0, metavar="X", help="0 takes the likeliest [default 0]")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw, above temperature 0 [default 0]")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    root = parser()
    known, rest = root.parse_known_args(argv)
    given = vars(known) | {"argv": list(sys.argv[1:] if argv is None else argv)}
    command = given["command"]
    if rest:
        near = difflib.get_close_matches(rest[0].partition("=")[0].removeprefix("--"), _flag_names(command), n=1)
        hint = f"; did you mean --{near[0]}?" if near else f"; `perennial {command} --help` lists what there is"
        print(f"perennial {command}: there is no flag {rest[0].partition('=')[0]}{hint}", file=sys.stderr)
        return 2
    flags = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        if command == "key":
            return _key(given["label"])
        if command in OFFLINE:
            return _offline(OFFLINE[command], given)
        settings = load_settings(flags)
        if given["lifeline_fd"] is not None:
            _watch_lifeline(given["lifeline_fd"], settings.drain_s)
        return int(_run(command, settings, given) or 0)
    except SettingsError as e:
        print("\n".join(f"perennial {command}: {line}" for line in e.lines), file=sys.stderr)
        return 2
    except PerennialError as e:
        print(f"perennial {command}: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, settings: Settings, given: dict[str, Any]) -> int | None:
    if command == "generate":
        return _generate(settings, given)
    if command == "evaluate":
        return _evaluate(settings, given)
    configure_logging(settings, command)
    if command == "serve":
        from server.supervisor import Supervisor  # noqa: PLC0415

        return asyncio.run(Supervisor(settings, say=lambda line: print(line, flush=True)).run())
    if settings.redis_url is None:
        raise SettingsError(
            [f"{PREFIX}REDIS_URL: is needed by `perennial {command}`; `perennial serve` brings its own Valkey"]
        )
    return _api(settings, given["listen_fd"]) if command == "api" else _worker(settings)


def _api(settings: Settings, listen_fd: int | None) -> int:
    import socket  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from model.tokenizer import load_tokenizer  # noqa: PLC0415
    from server.api.app import create_app, serve  # noqa: PLC0415

    anonymous = settings.check_exposure()
    tracing = open_tracing("api", os.environ)
    try:
        tokenizer = load_tokenizer(settings.model, settings.cache_dir)
    except (ValueError, OSError) as e:
        raise _start_error(e, settings) from e
    if listen_fd is not None:
        sock = socket.socket(fileno=listen_fd)
    else:
        sock = bind(settings.host, settings.port)
        access = "anyone, without a key" if anonymous else "with an API key"
        print(f"perennial api: {address(sock)}   {access}", flush=True)
    uvloop.run(serve(create_app(settings, tokenizer, tracing), sock, settings))
    return 0


def _worker(settings: Settings) -> int:
    from server.worker.main import run  # noqa: PLC0415

    try:
        asyncio.run(run(settings))
    except (ValueError, OSError) as e:  # what reading a model raises
        raise _start_error(e, settings) from e
    return 0


def _start_error(error: Exception, settings: Settings) -> StartupError:
    """The error as one line; its traceback too, where the log level asks for it."""
    if settings.log_level == "debug":
        traceback.print_exception(error)
    return StartupError(" ".join(str(error).split()) or type(error).__name__)


def _generate(settings: Settings, given: dict[str, Any]) -> int:
    from server.complete import complete  # noqa: PLC0415

    text = sys.stdin.read() if given["text"] == "-" else given["text"]
    try:
        for piece in complete(
            settings, text, max_tokens=given["max_tokens"], temperature=given["temperature"], seed=given["seed"]
        ):
            print(piece, end="", flush=True)
    except (ValueError, OSError) as e:
        raise _start_error(e, settings) from e
    print()
    return 0


def _evaluate(settings: Settings, given: dict[str, Any]) -> int:
    from server.measure import measure  # noqa: PLC0415

    try:
        options = evaluation.from_arguments(given)
        measure(settings, options, command=given["argv"], say=lambda line: print(line, flush=True))
    except (ValueError, OSError) as e:
        raise _start_error(e, settings) from e
    return 0


def _offline(command: Offline, given: dict[str, Any]) -> int:
    try:
        command.run(given, lambda line: print(line, flush=True))
    except (ValueError, OSError) as e:
        raise StartupError(" ".join(str(e).split()) or type(e).__name__) from e
    return 0


def _key(label: str | None) -> int:
    key = new_key()
    entry = f"{label}:{digest_of(key)}" if label is not None else digest_of(key)
    if not is_entry(entry):
        raise SettingsError(["--label: letters, digits, dots, dashes and underscores only, at most 64"])
    print(f"key: {key}\nPERENNIAL_API_KEYS entry: {entry}")
    return 0


def _watch_lifeline(fd: int, drain_s: float) -> None:
    """End this process when the supervisor is gone, however it died: its end of the pipe closes with it."""

    def watch() -> None:
        import signal  # noqa: PLC0415
        import time  # noqa: PLC0415

        while os.read(fd, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(drain_s + 5)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
