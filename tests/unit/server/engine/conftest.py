"""The toy model and the desk of `support.desk`, as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from model.sampling import Sampled
from model.state import State
from support.desk import Desk, Toy, lone


@pytest.fixture(scope="session")
def toy() -> Toy:
    """The model; its `calls` belong to whoever clears them."""
    return Toy()


@pytest.fixture(scope="session")
def desk(toy: Toy) -> Callable[..., Desk]:
    """Makes a `Desk` with the given slots and budgets."""
    return lambda **settings: Desk(toy, **settings)


@pytest.fixture(scope="session")
def alone() -> Callable[..., tuple[list[Sampled], State]]:
    """`lone`."""
    return lone
