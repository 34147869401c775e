"""`perennial inspect`: what a running server says of a session's memory, as a table and as a picture.

A client like any other: it knows the HTTP surface and nothing of the store. Light to import; drawing needs matplotlib,
which comes with the extra `plots`.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from server.errors import StartupError

SUMMARY = "What a session of a running server remembers: a table, and a picture of spectra and gates."
EPILOG = "Where the server asks for keys, the key is read from --key-file or from OPENAI_API_KEY."
TIMEOUT_S = 120.0
COLUMNS = ("layer", "memory", "head", "norm", "norm_z", "rank", "effective_rank", "writes", "gates", "largest")


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The command's own flags."""
    sub.add_argument("session", help="its id, as the server named it")
    sub.add_argument("--url", default="http://127.0.0.1:8000", metavar="URL", help="the server [default: %(default)s]")
    sub.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds the API key and nothing else")
    sub.add_argument("--layer", type=int, metavar="N", help="only the matrices of this layer")
    sub.add_argument("--png", type=Path, metavar="FILE", help="draw the singular spectra and the gates into this file")
    sub.add_argument("--json", action="store_true", help="print what the server said instead of a table")


def inspect(given: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Run the command; `say` prints a line. Raises StartupError where the server can't be asked, or refuses."""
    memory = _ask(given)
    say(json.dumps(memory, indent=2) if given["json"] else table(memory))
    if given["png"] is not None:
        draw(memory, given["png"])


def _ask(given: Mapping[str, Any]) -> dict[str, Any]:
    query = "" if given["layer"] is None else f"?layer={given['layer']}"
    url = f"{given['url'].rstrip('/')}/v1/sessions/{urllib.parse.quote(given['session'], safe='')}/memory{query}"
    if not url.startswith(("http://", "https://")):
        raise StartupError(f"--url is an http:// or https:// address, not {given['url']}")
    request = urllib.request.Request(url)  # noqa: S310 - its scheme was just looked at
    if (key := _key(given["key_file"])) is not None:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise StartupError(f"the server refuses: {_message(error)}") from None
    except (OSError, ValueError) as error:
        raise StartupError(f"no server answers at {given['url']}: {getattr(error, 'reason', error)}") from None


def _key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("OPENAI_API_KEY")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"--key-file: {file} can't be read: {error}") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return f"{json.load(error)['error']['message']} ({error.code})"
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def table(memory: Mapping[str, Any]) -> str:
    """What the server said, for a terminal."""
    rows = [list(COLUMNS), *(_row(matrix) for matrix in memory["matrices"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    frozen = ", frozen" if memory["frozen"] else ""
    if not memory["matrices"]:
        lines = ["This model remembers nothing beyond its window."]
    return "\n".join([f"{memory['session']} at position {memory['position']:,} ({memory['turn']}{frozen})", *lines])


def _row(matrix: Mapping[str, Any]) -> list[str]:
    return [
        *(str(matrix[name]) for name in ("layer", "memory", "head")),
        f"{matrix['norm']:.4g}",
        "-" if matrix["norm_z"] is None else f"{matrix['norm_z']:.4g}",
        str(matrix["rank"]),
        f"{matrix['effective_rank']:.1f}",
        str(matrix["writes"]),
        " ".join(f"{gate:.2f}" for gate in matrix["gates"]) or "-",
        " ".join(f"{value:.3g}" for value in matrix["singular_values"][:4]),
    ]


def draw(memory: Mapping[str, Any], file: Path) -> None:
    """One panel of singular spectra for each layer, and one of all gates, into a PNG."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise StartupError("--png needs matplotlib: pip install 'perennial[plots]'") from None
    matrices: Sequence[Mapping[str, Any]] = memory["matrices"]
    layers = sorted({matrix["layer"] for matrix in matrices})
    if not layers:
        raise StartupError("there is nothing to draw: this model remembers nothing beyond its window")
    gated = any(matrix["gates"] for matrix in matrices)
    figure = Figure(figsize=(4.2 * (len(layers) + gated), 3.4), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(layers) + gated, squeeze=False)[0]
    for panel, layer in zip(panels, layers, strict=False):
        for matrix in (one for one in matrices if one["layer"] == layer):
            # A spectrum on a logarithmic axis: zeros are left out of the line.
            values = [value or float("nan") for value in matrix["singular_values"]]
            which = f"head {matrix['head']}" + (f", memory {matrix['memory']}" if matrix["memory"] else "")
            panel.semilogy(range(1, len(values) + 1), values, marker=".", label=which)
        panel.set(title=f"layer {layer}", xlabel="component", ylabel="singular value")
        panel.legend(fontsize="small")
    if gated:
        names = [f"{one['layer']}.{one['head']}.{i}" for one in matrices for i in range(len(one["gates"]))]
        panels[-1].bar(names, [gate for matrix in matrices for gate in matrix["gates"]])
        panels[-1].set(title="read gates", xlabel="layer.head.query head", ylabel="gate", ylim=(0, 1))
        panels[-1].tick_params(axis="x", rotation=90, labelsize="x-small")
    figure.suptitle(f"{memory['session']} at position {memory['position']:,}", fontsize="medium")
    try:
        figure.savefig(file, format="png")
    except OSError as error:
        raise StartupError(f"--png: {file} can't be written: {error.strerror}") from None
