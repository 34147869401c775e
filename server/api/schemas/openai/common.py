"""What the bodies of the OpenAI endpoints have in common.

Every parameter that OpenAI documents is named here or in the schema that has it: it is honoured, or only its neutral
value is accepted (`only`), so that nothing is ever ignored. Nulls are absent, as everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from server.api.describe import MODEL
from server.api.schemas.common import Body
from server.api.schemas.generate import Bias, Stop, TokenId
from server.errors import InvalidRequest

MOST_CHOICES = 8


def only(*values: Any, why: str) -> Any:
    """A field of which nothing but `values` and null is accepted. why: what others would ask for, and isn't here."""
    return Field(None, description=why, json_schema_extra={"enum": [*values, None]})


class Neutral(Body):
    """A body some of whose fields are `only` there to be refused by name."""

    @field_validator("*", mode="before")
    @classmethod
    def _neutral(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        extra = field.json_schema_extra
        if isinstance(extra, Mapping) and isinstance(allowed := extra.get("enum"), Sequence):
            if not any(value == one and type(value) is type(one) for one in allowed):
                raise PydanticCustomError("unsupported", "{why}", {"why": (field.description or "").rstrip(".")})
            return value
        return value


class StreamOptions(Body):
    """How a stream is to be."""

    include_usage: bool | None = Field(
        None, description="A last chunk with no choices carries the usage; every other chunk says `usage: null`."
    )
    include_obfuscation: bool | None = Field(None, description="False only: nothing is padded here.")

    @field_validator("include_obfuscation")
    @classmethod
    def _not_padded(cls, value: bool | None) -> bool | None:
        if value:
            raise PydanticCustomError("unsupported", "chunks are not padded here; leave it out, or send false")
        return value


class Asked(Neutral):
    """What both kinds of completion take."""

    model: str = Field(
        min_length=1, max_length=512, description="The served model's name, or an alias of it.", examples=[MODEL]
    )

    max_tokens: int | None = Field(None, ge=1, description="Of one choice; absent: the server's own bound.")
    temperature: float = Field(1.0, ge=0, le=2, description="How freely tokens are drawn; 0 takes the likeliest.")
    top_p: float = Field(1.0, ge=0, le=1, description="Draw from the likeliest tokens that reach this share.")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted once from a token generated before.")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted for each time it was generated.")
    logit_bias: Bias = Field(default_factory=dict, description="What is added to the logits of these token ids.")
    seed: int | None = Field(
        None,
        ge=-(2**63),
        le=2**64 - 1,
        description="Drawn, and reported in `perennial`, when absent. Choice i of n has a seed made from it and i.",
    )
    stop: Stop = Field(
        default_factory=list, description="One text or up to 16: the answer ends before the first of them."
    )
    n: int = Field(1, ge=1, le=MOST_CHOICES, description="How many answers; each is a turn of a session of its own.")
    stream: bool = Field(False, description="Send chunks while the answer is made, then `[DONE]`.")
    stream_options: StreamOptions | None = Field(None, description="With `stream: true` only.")
    user: str | None = Field(None, max_length=512, description="A label of the caller's; it has no effect.")

    session_id: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="Not OpenAI's: the session to continue. Then only what is new is sent.",
    )
    wait_s: float = Field(0.0, ge=0, description="Not OpenAI's: how long, in s, to wait for that session when busy.")
    top_k: int = Field(0, ge=0, lt=2**31, description="Not OpenAI's: draw from the k likeliest tokens; 0 is off.")
    min_p: float = Field(0.0, ge=0, le=1, description="Not OpenAI's: draw from what is this likely beside the best.")
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=100, description="Not OpenAI's: divides the positive logits of tokens met before."
    )
    stop_token_ids: list[TokenId] = Field(
        default_factory=list, max_length=16, description="Not OpenAI's: tokens that end the answer, unseen."
    )
    ignore_eos: bool = Field(False, description="Not OpenAI's: go on past the end to max_tokens.")

    def check_stream(self) -> None:
        """Raises InvalidRequest where stream_options stand without a stream."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options: only with stream: true.", param="stream_options")

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends in a chunk with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """The fields that `GenerateRequest` has too, by their common name."""
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "stop", "top_k")
        more = ("min_p", "repetition_penalty", "stop_token_ids", "ignore_eos", "wait_s")
        return {name: getattr(self, name) for name in (*names, *more)}
