"""`POST /v1/generate`: what may be asked for, and within which bounds.

The bounds of the sampling fields lie within those of `model.sampling.SamplingParams`, so that a worker takes whatever
was accepted here; a unit test holds the two together, since nothing here may import torch.

Bounds that depend on the settings (max_tokens, wait_s) or on the model (token ids) are checked where those are known.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.schemas.common import Body, Many

Role = Literal["system", "developer", "user", "assistant", "tool"]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]
INPUTS = ("prompt", "messages", "input_ids")


class Message(Body):
    """One message of a conversation."""

    role: Role = Field(description="Who says it; `developer` is `system`.")
    content: str = Field(min_length=1, description="What is said.")

    def plain(self) -> dict[str, Any]:
        """The message as templates know it."""
        return {"role": self.role, "content": self.content}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_StopText = Annotated[str, Field(min_length=1, max_length=256)]
_StopTexts = Annotated[list[_StopText], Field(max_length=16)]
Stop = Annotated[_StopTexts, BeforeValidator(_as_list, json_schema_input_type=_StopText | _StopTexts)]
Bias = Annotated[
    dict[TokenKey, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=1024, json_schema_extra={"additionalProperties": False}),
]


class GenerateRequest(Body):
    """The body. Exactly one of `prompt`, `messages` (only the new ones) and `input_ids`."""

    session_id: str | None = Field(
        None, min_length=1, max_length=128, description="The session to continue. Absent: a new one is made."
    )
    prompt: str | None = Field(None, min_length=1, description="Raw text, read as it is.")
    messages: Many[Message] | None = Field(
        None,
        min_length=1,
        description="Only the new messages, rendered by the model's template. Where the last one is the assistant's, "
        "it is continued.",
    )
    input_ids: Many[TokenId] | None = Field(
        None, min_length=1, description="Tokens of the served model, read as they are; at most max_prompt_tokens."
    )

    max_tokens: int | None = Field(
        None, ge=1, description="At most so many are generated. Absent: the server's default, or the key's bound."
    )
    temperature: float = Field(1.0, ge=0, le=2, description="0 takes the likeliest token each time.")
    top_p: float = Field(1.0, ge=0, le=1, description="Draw among the likeliest that together have so much.")
    top_k: int = Field(0, ge=0, lt=2**31, description="Draw among so many of the likeliest; 0 = all.")
    min_p: float = Field(0.0, ge=0, le=1, description="Leave out what is less likely than this share of the likeliest.")
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=100, description="Divides the positive logits of tokens met before, multiplies the others."
    )
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted once from a token generated before.")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted for each time it was generated.")
    logit_bias: Bias = Field(default_factory=dict, description="What is added to the logits of these token ids.")
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1, description="Drawn, and reported, when absent.")
    stop: Stop = Field(
        default_factory=list, description="One text or up to 16: the answer ends before the first of them."
    )
    stop_token_ids: list[TokenId] = Field(
        default_factory=list,
        max_length=16,
        description="The generation ends when one of these is sampled; the token is not shown.",
    )
    ignore_eos: bool = Field(False, description="Go on where the model would end.")
    logprobs: int | None = Field(None, ge=0, le=20, description="How many of the likeliest tokens to report each time.")

    stream: bool = Field(True, description="Events while it runs; false: one answer at its end.")
    store: bool = Field(True, description="False: nothing outlives the answer.")
    wait_s: float = Field(
        0.0,
        ge=0,
        description="How long, in s, to wait for a session that runs another turn, or for a place where the key allows "
        "only so many at once.",
    )
    if_turn: str | None = Field(
        None, min_length=1, max_length=128, description="Refuse (409) unless this turn is the session's head."
    )
    from_turn: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="The turn of the session to continue from. Where it is not its head, or the session is busy, the "
        "session is forked and the fork runs the turn: its id is in the answer.",
    )
    on_disconnect: Literal["cancel", "continue"] | None = Field(
        None,
        description="What becomes of the turn when this client leaves. Absent: cancel; continue with an "
        "Idempotency-Key, since whoever sends one means to ask again.",
    )

    @model_validator(mode="after")
    def _one_input(self) -> "GenerateRequest":
        given = [name for name in INPUTS if getattr(self, name) is not None]
        if not given:
            raise PydanticCustomError("inputs", "One of prompt, messages and input_ids is required")
        if len(given) > 1:
            raise PydanticCustomError(
                "inputs",
                "Only one of prompt, messages and input_ids may be given, not {given}",
                {"given": " and ".join(given)},
            )
        for name in ("if_turn", "from_turn"):
            if getattr(self, name) is not None and self.session_id is None:
                raise PydanticCustomError(
                    name, "{name} is about a session: session_id is required with it", {"name": name}
                )
        if self.if_turn is not None and self.from_turn is not None:
            raise PydanticCustomError("from_turn", "Only one of if_turn and from_turn may be given")
        return self
