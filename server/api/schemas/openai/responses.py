"""`/v1/responses`: what may be sent, and what is answered."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.describe import MODEL
from server.api.schemas.answers import Answer
from server.api.schemas.common import Body, Many, Query
from server.api.schemas.openai.chat import ChatMessage
from server.api.schemas.openai.common import Neutral, only

# What OpenAI's items and parts may be, so that a refusal can name them without repeating what a client made up.
ITEM_TYPES = (
    *("function_call", "function_call_output", "reasoning", "item_reference", "file_search_call", "web_search_call"),
    *("computer_call", "computer_call_output", "image_generation_call", "code_interpreter_call", "local_shell_call"),
    *("mcp_call", "mcp_list_tools", "mcp_approval_request", "custom_tool_call", "custom_tool_call_output"),
)
PART_TYPES = ("input_image", "input_file", "input_audio", "refusal", "image_url")
TEXT_TYPES = ("input_text", "output_text", "text")
LOGPROBS = "message.output_text.logprobs"


def _text_of(content: object) -> object:
    """Content parts as one text; anything but a list is left to the schema."""
    if not isinstance(content, list):
        return content
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or kind not in TEXT_TYPES:
            named = f"is of type {kind}" if isinstance(kind, str) and kind in PART_TYPES else "is not a text"
            raise PydanticCustomError(
                "part", "part {place} {named}; only input_text and output_text can be read", _of(place, named)
            )
        # As answers carry them, so that an answer's part can be sent again.
        empty = {name for name in ("annotations", "logprobs") if kind == "output_text" and name in part}
        if set(part) - empty != {"type", "text"} or not isinstance(part["text"], str) or part.get("annotations"):
            raise PydanticCustomError("part", "part {place} is a type and a text, and nothing else", _of(place))
        texts.append(part["text"])
    return "".join(texts)


def _of(place: int, named: str = "") -> dict[str, Any]:
    return {"place": place, "named": named}


class InputPart(Body):
    """A part of a message's content, for the document: `_text_of` reads it."""

    type: Literal["input_text", "output_text", "text"] = Field(description="Only text can be read.")
    text: str = Field(description="The text.")
    annotations: list[Any] = Field(
        default_factory=list, max_length=0, description="Empty only, and with output_text: as an answer carries it."
    )
    logprobs: Any = Field(None, description="With output_text: as an answer carries it; it has no effect.")


class InputMessage(Body):
    """One message. Its content is a text or a list of text parts, which are joined."""

    type: Literal["message"] = Field("message", description="There is no other that this server reads.")
    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who says it.")
    content: Annotated[str, BeforeValidator(_text_of, json_schema_input_type=str | list[InputPart])] = Field(
        description="A text, or parts of type input_text or output_text. Only an assistant's may be empty."
    )
    id: str | None = Field(None, max_length=128, description="As an answer carries it; it has no effect.")
    status: Literal["in_progress", "completed", "incomplete"] | None = Field(
        None, description="As an answer carries it; it has no effect."
    )
    phase: None = Field(None, description="Null only.")

    @model_validator(mode="before")
    @classmethod
    def _a_message(cls, value: Any) -> Any:
        kind = value.get("type", "message") if isinstance(value, Mapping) else "message"
        if kind != "message":
            named = f"of type {kind}" if isinstance(kind, str) and kind in ITEM_TYPES else "of another type"
            raise PydanticCustomError(
                "item", "only messages can be read, and this is an item {named}", {"named": named}
            )
        return value

    @model_validator(mode="after")
    def _says_something(self) -> "InputMessage":
        if not self.content and self.role != "assistant":
            raise PydanticCustomError("content", "content is required")
        return self

    def chat(self) -> ChatMessage:
        """The same as a message of a chat."""
        return ChatMessage.model_validate({"role": self.role, "content": self.content})


def _as_items(value: object) -> object:
    if value == "":
        raise PydanticCustomError("input", "should have at least one character")
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(min_length=1, max_length=128)]


class NamedConversation(Body):
    """A conversation as an object."""

    id: _Name = Field(description="Its id.")


def _as_conversation(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
_PLAIN_TEXT = {"format": {"type": "text"}}


class ResponseRequest(Neutral):
    """The body. `input`: only what is new where the response continues another, or a conversation; else all that was
    said, whose known part is recognised."""

    model: str = Field(
        min_length=1, max_length=512, description="The served model's name, or an alias of it.", examples=[MODEL]
    )
    input: Annotated[
        Many[InputMessage],
        Field(min_length=1),
        BeforeValidator(_as_items, json_schema_input_type=_Text | Annotated[list[InputMessage], Field(min_length=1)]),
    ] = Field(description="A user's text, or messages; a last one that is the assistant's is continued.")
    instructions: str | None = Field(
        None,
        min_length=1,
        description="A system message in front of the input. Where the response continues another, those of before "
        "have been read and stand; these are read after them, where the model's template allows it.",
    )
    previous_response_id: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="The response to continue: any that is stored and has ended with an answer, also one that others "
        "have continued.",
    )
    conversation: Annotated[
        NamedConversation | None, BeforeValidator(_as_conversation, json_schema_input_type=_Name | NamedConversation)
    ] = Field(None, description="The conversation to continue: its id, or an object with it.")
    store: bool = Field(True, description="False: nothing outlives the answer, and nothing can continue it.")
    background: bool = Field(
        False, description="Answer at once; the response is made without its client. Needs `store`."
    )
    stream: bool = Field(False, description="Send events while the answer is made.")
    temperature: float = Field(1.0, ge=0, le=2, description="How freely tokens are drawn; 0 takes the likeliest.")
    top_p: float = Field(1.0, ge=0, le=1, description="Draw from the likeliest tokens that reach this share.")
    max_output_tokens: int | None = Field(None, ge=1, description="Absent: the server's own bound.")
    include: list[Any] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"items": {"enum": [LOGPROBS]}},
        description=f"{LOGPROBS} only: each token's log probability, as long as the response's events are kept.",
    )
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description=f"With include: [{LOGPROBS}]; the likeliest tokens."
    )
    metadata: Metadata | None = Field(None, description="Labels of the caller's; they come back in the answer.")
    user: str | None = Field(None, max_length=512, description="A label; it has no effect.")
    safety_identifier: str | None = Field(None, max_length=512, description="A label; it has no effect.")
    prompt_cache_key: str | None = Field(None, max_length=512, description="A label; it has no effect.")

    seed: int | None = Field(
        None, ge=-(2**63), le=2**64 - 1, description="Not OpenAI's: drawn, and reported in `perennial`, when absent."
    )
    top_k: int = Field(0, ge=0, lt=2**31, description="Not OpenAI's: draw from the k likeliest tokens; 0 is off.")
    min_p: float = Field(0.0, ge=0, le=1, description="Not OpenAI's: draw from what is this likely beside the best.")
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=100, description="Not OpenAI's: divides the positive logits of tokens met before."
    )
    wait_s: float = Field(0.0, ge=0, description="Not OpenAI's: how long, in s, to wait for a busy conversation.")

    truncation: Any = only("disabled", "auto", why="A conversation never outgrows this server; send disabled or auto.")
    text: Any = only(
        {},
        _PLAIN_TEXT,
        _PLAIN_TEXT | {"verbosity": "medium"},
        {"verbosity": "medium"},
        why="Only text can be asked for here, of no set verbosity; leave text out.",
    )
    tools: list[Any] | None = only([], why="The model cannot call tools; leave tools out, or send an empty list.")
    tool_choice: Any = only("auto", "none", why="The model cannot call tools; leave tool_choice out.")
    parallel_tool_calls: bool | None = Field(None, description="Either: no tool is ever called.")
    max_tool_calls: int | None = Field(None, ge=1, description="Any: no tool is ever called.")
    reasoning: Any = only({}, {"effort": "none"}, why="The model has no reasoning to set; leave reasoning out.")
    stream_options: Any = only({}, {"include_obfuscation": False}, why="Events are not padded here; leave it out.")
    service_tier: Any = only("auto", "default", why="There is one service tier; leave it out, or send auto or default.")
    prompt: Any = only(why="There are no stored prompts here; leave prompt out.")
    context_management: Any = only([], why="A conversation never outgrows this server; leave it out.")
    prompt_cache_retention: Any = only(why="How long sessions are kept is the server's setting; leave it out.")
    prompt_cache_options: Any = only(why="How sessions are kept is the server's setting; leave it out.")
    moderation: Any = only(why="Nothing is moderated here; leave moderation out.")

    @model_validator(mode="after")
    def _fits_together(self) -> "ResponseRequest":
        if self.previous_response_id is not None and self.conversation is not None:
            raise PydanticCustomError("conversation", "Only one of previous_response_id and conversation may be given")
        if self.background and not self.store:
            raise PydanticCustomError("background", "background needs store: true")
        if any(one != LOGPROBS for one in self.include):
            raise PydanticCustomError("include", "include: only message.output_text.logprobs can be had here")
        if self.top_logprobs is not None and not self.include:
            raise PydanticCustomError("top_logprobs", "top_logprobs: only with include: [message.output_text.logprobs]")
        return self


class GetResponse(Query):
    """The query of `GET /v1/responses/{response_id}`."""

    stream: bool = Field(False, description="Its events, from the beginning and as they come, instead of the response.")
    starting_after: int | None = Field(
        None, ge=0, lt=2**31, description="With `stream`: only events with a greater `sequence_number`."
    )
    include_obfuscation: Literal["false", "False"] | None = Field(None, description="False only: nothing is padded.")


class DeletedResponse(Answer):
    """What is gone."""

    id: str = Field(description="The response's id.")
    object: Literal["response"] = Field(description="What this is.")
    deleted: Literal[True] = Field(description="That it is.")
