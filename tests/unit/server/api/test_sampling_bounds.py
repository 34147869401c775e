"""Whatever the schema lets in, a worker can build its sampling parameters from: the two are walked side by side."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_args

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from model.sampling import SamplingParams
from server.api.schemas.generate import GenerateRequest

# Of these the schema has exactly the worker's bounds; of the others it may have narrower ones.
EXACT = {"repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_p", "min_p"}
PLAIN = sorted({field.name for field in fields(SamplingParams)} - {"banned", "logit_bias"})


def bounds(field: FieldInfo) -> tuple[Any, Any]:
    """The least and the greatest value a field takes; fails where one is missing."""
    low: list[Any] = []
    high: list[Any] = []
    for rule in field.metadata:
        parts = list(rule) if isinstance(rule, Interval) else [rule]
        for part in parts:
            if isinstance(part, Ge):
                low.append(part.ge)
            elif isinstance(part, Le):
                high.append(part.le)
            elif isinstance(part, Lt):
                high.append(below(field, part.lt))
            elif isinstance(part, Gt):
                low.append(above(field, part.gt))
    assert (len(low), len(high)) == (1, 1)
    return low[0], high[0]


def below(field: FieldInfo, value: Any) -> Any:
    return math.nextafter(value, -math.inf) if field.annotation is float else value - 1


def above(field: FieldInfo, value: Any) -> Any:
    return math.nextafter(value, math.inf) if field.annotation is float else value + 1


@pytest.mark.parametrize("name", PLAIN)
def test_the_worker_takes_both_ends_of_what_the_schema_takes(name: str):
    for value in bounds(GenerateRequest.model_fields[name]):
        asked = GenerateRequest.model_validate({"prompt": "x", name: value})
        assert getattr(SamplingParams(**{name: getattr(asked, name)}), name) == value


@pytest.mark.parametrize("name", sorted(EXACT))
def test_both_refuse_what_is_just_outside(name: str):
    field = GenerateRequest.model_fields[name]
    low, high = bounds(field)
    for value in (below(field, low), above(field, high)):
        with pytest.raises(ValidationError):
            GenerateRequest.model_validate({"prompt": "x", name: value})
        with pytest.raises(ValueError, match=name):
            SamplingParams(**{name: value})


def test_the_worker_takes_the_ends_of_a_bias_and_the_greatest_id():
    _, number = get_args(GenerateRequest.model_fields["logit_bias"].annotation)
    low, high = bounds(FieldInfo.from_annotation(number))
    asked = GenerateRequest.model_validate({"prompt": "x", "logit_bias": {"0": low, "9" * 9: high}})
    bias = {int(token): value for token, value in asked.logit_bias.items()}
    assert SamplingParams(logit_bias=bias).logit_bias == {0: low, 10**9 - 1: high}
    with pytest.raises(ValidationError):
        GenerateRequest.model_validate({"prompt": "x", "logit_bias": {"9" * 10: high}})
