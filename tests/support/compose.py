"""What `docker compose config` makes of a file, as far as ours goes: variables put in, anchors and merges resolved.

Interpolation is compose's own grammar, nesting included: ${A}, ${A:-default}, ${A-default}, ${A:?message},
${A?message}, ${A:+instead}, ${A+instead}, and $$ for a dollar.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


class MissingVariableError(ValueError):
    """A variable that has to be set is not; the file's own message."""


def compose(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The file with an environment's variables in it. Raises MissingVariableError."""
    read: dict[str, Any] = _each(yaml.safe_load(path.read_text()), environment)
    return read


def _each(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _each(one, environment) for name, one in value.items()}
    if isinstance(value, list):
        return [_each(one, environment) for one in value]
    return interpolate(value, environment) if isinstance(value, str) else value


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """One string. Raises MissingVariableError, and ValueError for what is not compose's grammar."""
    out, rest = "", text
    while (at := rest.find("$")) >= 0:
        out, rest = out + rest[:at], rest[at + 1 :]
        if rest.startswith("$"):
            out, rest = out + "$", rest[1:]
        elif rest.startswith("{"):
            end = _closing(rest)
            out, rest = out + _variable(rest[1:end], environment), rest[end + 1 :]
        else:
            raise ValueError(f"a dollar that is neither $$ nor ${{…}}: {text}")
    return out + rest


def _closing(text: str) -> int:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return place
    raise ValueError(f"a brace that does not close: {text}")


def _variable(inner: str, environment: Mapping[str, str]) -> str:
    name = inner
    for place, character in enumerate(inner):
        if not (character.isalnum() or character == "_"):
            name = inner[:place]
            break
    rest = inner[len(name) :]
    empty_counts = not rest.startswith(":")
    operator, more = rest.removeprefix(":")[:1], rest.removeprefix(":")[1:]
    value = environment.get(name)
    there = value is not None and (empty_counts or value != "")
    if operator == "+":
        return interpolate(more, environment) if there else ""
    if there or operator == "":
        return value or ""
    if operator == "?":
        raise MissingVariableError(f"{name}: {interpolate(more, environment)}")
    if operator != "-":
        raise ValueError(f"not compose's grammar: {inner}")
    return interpolate(more, environment)
