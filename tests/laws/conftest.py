"""Every variant of every registered architecture, under every law."""

from __future__ import annotations

import pytest
import torch

from model.state import Model
from support.subjects import SUBJECTS, Subject
from support.tiny import one_thread

__all__ = ["one_thread"]

ALL = [
    pytest.param(s, id=f"{a}-{v}", marks=[pytest.mark.full] if s.full else [])
    for a, variants in SUBJECTS.items()
    for v, s in variants.items()
]


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Subject:
    assert isinstance(request.param, Subject)
    return request.param


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    """Torch on one thread, the backends on theirs."""


@pytest.fixture
def model(subject: Subject) -> Model:
    return subject.build()


@pytest.fixture
def text(model: Model) -> list[int]:
    """50 tokens: three windows of the tiny models."""
    g = torch.Generator().manual_seed(7)
    return torch.randint(0, model.vocab_size, (50,), generator=g).tolist()
