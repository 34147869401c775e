"""How a body becomes a checked object, or an error that names the one thing to mend.

Invariants: nothing is converted (a string is not a number, true is not 1), nothing unknown is ignored, and a message
never repeats a value: it may be somebody's prompt. An explicit null is the same as an absent field.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from server.api.body import printable
from server.errors import InvalidRequest, UnknownParameter


class Body(BaseModel):
    """The base of every request: strict, closed, frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Query(BaseModel):
    """The base of every query string: closed and frozen; its values are text, so numbers are read from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

# A list of any length: told of its first fault only, since a million of them would take minutes and gigabytes to tell.
Many = Annotated[list[T], Field(fail_fast=True)]


def parse(model: type[M], value: object) -> M:
    """`value` as a `model`. Raises InvalidRequest or UnknownParameter with `param` set to the field at fault."""
    if not isinstance(value, Mapping):
        raise InvalidRequest("The body must be a JSON object.")
    given = {name: field for name, field in value.items() if field is not None or name not in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as e:
        errors = e.errors(include_url=False, include_input=False)
    raise _first(model, errors)


def _first(model: type[BaseModel], errors: Sequence[ErrorDetails]) -> InvalidRequest:
    """The error that is worth naming first: an unknown name, since it often explains what else is missing."""
    unknown = next((error for error in errors if error["type"] == "extra_forbidden"), None)
    if unknown is not None:
        param = path(unknown["loc"])
        known = [str(name) for name in model.model_fields] if len(unknown["loc"]) == 1 else []
        near = difflib.get_close_matches(param, known, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]}?" if near else ""
        return UnknownParameter(f"Unknown parameter: {param}.{hint}", param=param)
    error = errors[0]
    param = path(error["loc"])
    if error["type"] == "missing":
        return InvalidRequest(f"{param} is required.", param=param)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return InvalidRequest(f"{param}: {message}." if param else f"{message}.", param=param or None)


def path(loc: Sequence[Any]) -> str:
    """("messages", 0, "role") → "messages[0].role". Names a client made up are cut and made printable."""
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        elif part != "[key]":
            out += f".{printable(str(part))}" if out else printable(str(part))
    return out
