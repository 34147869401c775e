"""`POST /v1/tokenize` and `/v1/detokenize`."""

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.schemas.common import Body, Many
from server.api.schemas.generate import Message, TokenId


class TokenizeRequest(Body):
    """Exactly one of raw text and the messages of a session's first turn."""

    prompt: str | None = Field(None, description="Raw text.")
    messages: Many[Message] | None = Field(
        None, min_length=1, description="The messages of a session's first turn, rendered by the model's template."
    )

    @model_validator(mode="after")
    def _one_input(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("inputs", "Exactly one of prompt and messages is required")
        return self


class DetokenizeRequest(Body):
    """The ids to turn back into text."""

    tokens: Many[TokenId] = Field(description="Tokens of the served model; at most max_prompt_tokens.")
