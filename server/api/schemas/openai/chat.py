"""`POST /v1/chat/completions`: what may be sent."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.schemas.common import Body, Many
from server.api.schemas.generate import Message
from server.api.schemas.openai.common import Asked, only

# What OpenAI's parts may hold, so that a refusal can name it without repeating what a client made up.
PART_TYPES = ("image_url", "input_audio", "file", "refusal", "video_url", "image", "input_text", "input_image")


def text_of(content: object) -> object:
    """Content parts as one text; anything but a list is left to the schema."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    texts = []
    for place, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else None
            named = f"is of type {kind}" if isinstance(kind, str) and kind in PART_TYPES else "is not of type text"
            raise PydanticCustomError("part", "part {place} {named}; only text can be read", _of(place, named))
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise PydanticCustomError("part", "part {place} is a type and a text, and nothing else", _of(place))
        texts.append(part["text"])
    return "".join(texts)


def _of(place: int, named: str = "") -> dict[str, Any]:
    return {"place": place, "named": named}


def _arguments(value: object) -> object:
    """The arguments of a call, which OpenAI sends as JSON in a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise PydanticCustomError("arguments", "should be a JSON object, as a text")
    return value


class CalledFunction(Body):
    """Which function was called, and with what."""

    name: str = Field(min_length=1, max_length=256, description="The function's name.")
    arguments: Annotated[
        dict[str, Any],
        BeforeValidator(_arguments, json_schema_input_type=str),
        Field(description="A JSON object as a text."),
    ]


class ToolCall(Body):
    """A call that an assistant's message of the history made."""

    id: str = Field(min_length=1, max_length=256, description="What the answer to it is known by.")
    type: Literal["function"] = Field("function", description="There is no other.")
    function: CalledFunction = Field(description="What was called.")


class TextPart(Body):
    """A part of a message's content, for the document: `text_of` reads it."""

    type: Literal["text"] = Field(description="Only text can be read.")
    text: str = Field(description="The text.")


def _or_none(value: object) -> object:
    return value or None


class ChatMessage(Message):
    """One message. Its content is a text or a list of text parts, which are joined."""

    content: Annotated[str, BeforeValidator(text_of, json_schema_input_type=str | list[TextPart] | None)] = Field(
        "", description="A text, or parts of type text. Only an assistant's may be empty."
    )
    tool_calls: Annotated[Many[ToolCall] | None, BeforeValidator(_or_none)] = Field(
        None, description="Calls in the history. Refused where the model's template cannot render them."
    )
    tool_call_id: str | None = Field(None, max_length=256, description="With role tool: which call it answers.")
    name: None = Field(None, description="Null only: no template here tells participants of one role apart.")
    refusal: None = Field(None, description="Null only.")
    audio: None = Field(None, description="Null only.")
    function_call: None = Field(None, description="Null only: send tool_calls.")
    annotations: list[Any] | None = Field(None, max_length=0, description="Empty only: as answers carry it.")

    @model_validator(mode="after")
    def _fits_its_role(self) -> "ChatMessage":
        if self.tool_calls is not None and self.role != "assistant":
            raise PydanticCustomError("tool_calls", "tool_calls are an assistant's")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise PydanticCustomError("tool_call_id", "tool_call_id belongs to a message of role tool, and to no other")
        if not self.content and self.role != "assistant":
            raise PydanticCustomError("content", "content is required")
        return self

    def plain(self) -> dict[str, Any]:
        """The message as templates know it."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls is not None:
            out["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        return out


class ChatRequest(Asked):
    """The body. `messages`: the whole conversation, whose known part is recognised; with `session_id` the new ones."""

    messages: Many[ChatMessage] = Field(min_length=1, description="The conversation; a last assistant's is continued.")
    max_completion_tokens: int | None = Field(None, ge=1, description="Stands before `max_tokens` where both are sent.")
    logprobs: bool = Field(False, description="Report each token's log probability.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="With `logprobs: true`: the likeliest tokens.")
    store: bool = Field(
        True,
        description="False: nothing outlives the answer, so the turn is not recognised when it is sent again. True "
        "(also where absent) keeps the session as long as the server keeps sessions.",
    )
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None,
        max_length=16,
        description="Labels of the caller's; they come back in the answer, and have no other effect.",
    )
    safety_identifier: str | None = Field(None, max_length=512, description="A label; it has no effect.")
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="A label; it has no effect: a history is recognised by its content."
    )

    tools: list[Any] | None = only([], why="The model cannot call tools; leave tools out, or send an empty list.")
    tool_choice: Any = only("none", why="The model cannot call tools; leave tool_choice out, or send none.")
    parallel_tool_calls: bool | None = Field(None, description="Either: no tool is ever called.")
    functions: list[Any] | None = only([], why="The model cannot call functions; leave functions out.")
    function_call: Any = only("none", why="The model cannot call functions; leave function_call out.")
    response_format: Any = only(
        {"type": "text"}, why="Only text can be asked for here; json_object and json_schema are not enforced."
    )
    modalities: list[Any] | None = only(["text"], why="Only text can be answered; leave modalities out.")
    audio: Any = only(why="Only text can be answered; leave audio out.")
    prediction: Any = only(why="Predicted outputs are not used here; leave prediction out.")
    reasoning_effort: Any = only("none", why="The model has no reasoning to set; leave it out, or send none.")
    verbosity: Any = only("medium", why="The model has no verbosity to set; leave it out, or send medium.")
    service_tier: Any = only("auto", "default", why="There is one service tier; leave it out, or send auto or default.")
    web_search_options: Any = only(why="Nothing is searched here; leave web_search_options out.")
    prompt_cache_retention: Any = only(why="How long sessions are kept is the server's setting; leave it out.")
    prompt_cache_options: Any = only(why="How sessions are kept is the server's setting; leave it out.")
    moderation: Any = only(why="Nothing is moderated here; leave moderation out.")
