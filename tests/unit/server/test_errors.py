"""The error tree."""

from __future__ import annotations

import pytest

from server import errors
from server.errors import PerennialError

ALL = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PerennialError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_an_error_speaks_for_itself(kind: type[PerennialError]) -> None:
    error = kind()
    assert str(error) == error.message
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.body() == {"error": {"message": error.message, "type": kind.type, "param": None, "code": kind.code}}
    assert 400 <= kind.status < 600
    # Busy answers say when to come back.
    assert (error.retry_after is not None) == (kind.status in (429, 503))


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_the_tree_on_top_of_the_file_is_the_tree(kind: type[PerennialError]) -> None:
    assert errors.__doc__ is not None
    if kind is not PerennialError:
        [line] = [row for row in errors.__doc__.splitlines() if f"─ {kind.__name__} " in row]
        assert f" {kind.status}  {kind.code}" in line


def test_codes_are_unique() -> None:
    assert len({c.code for c in ALL}) == len(ALL)


def test_an_error_can_be_made_precise() -> None:
    error = errors.QueueFull("No room.", param="prompt", retry_after=5.0)
    assert (error.message, error.param, error.retry_after) == ("No room.", "prompt", 5.0)
