"""`POST /v1/completions`: what may be sent."""

from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.schemas.generate import TokenId
from server.api.schemas.openai.common import Asked, only

MOST_PROMPTS = 8


class CompletionRequest(Asked):
    """The body. A prompt is raw text, or token ids, and is continued as it is: no template, nothing recognised."""

    prompt: Any = Field(
        description=f"A text, a list of token ids, or a list of up to {MOST_PROMPTS} of either.",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MOST_PROMPTS},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "minItems": 1,
                    "maxItems": MOST_PROMPTS,
                },
            ]
        },
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="How many of the likeliest tokens to report each time.")
    store: bool | None = Field(
        None,
        description="Not OpenAI's: keep the session, so that `session_id` can continue it. Absent: only with a "
        "`session_id`.",
    )
    best_of: int | None = only(1, why="Every answer is returned: best_of is 1 only; ask for n.")
    echo: bool | None = only(False, why="The prompt is not repeated; leave echo out, or send false.")
    suffix: str | None = only("", why="The model cannot fill in before a suffix; leave suffix out.")

    @model_validator(mode="after")
    def _lone_session(self) -> "CompletionRequest":
        if self.session_id is not None and len(self.prompts()) > 1:
            raise PydanticCustomError("session_id", "session_id goes with one prompt")
        return self

    def prompts(self) -> list[str | list[TokenId]]:
        """Each prompt by itself; what they are is checked when each becomes a turn."""
        prompt = self.prompt
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)):
            return prompt
        return [prompt]
