"""`/v1/conversations`: what may be sent, and what is answered."""

from typing import Literal

from pydantic import Field

from server.api.schemas.answers import Answer
from server.api.schemas.common import Body
from server.api.schemas.openai.responses import InputMessage, Metadata


class CreateConversation(Body):
    """The body of `POST /v1/conversations`; none at all will do."""

    metadata: Metadata | None = Field(None, description="Labels of the caller's; they come back with the conversation.")
    items: list[InputMessage] | None = Field(
        None,
        max_length=20,
        description="Messages to begin with: they are read in front of the first response's input.",
    )


class UpdateConversation(Body):
    """The body of `POST /v1/conversations/{conversation_id}`."""

    metadata: Metadata = Field(description="Labels, in place of those before.")


class ConversationAnswer(Answer):
    """A conversation."""

    id: str = Field(description="Its id: send it as `conversation`.")
    object: Literal["conversation"] = Field(description="What this is.")
    created_at: int = Field(description="Unix time, s.")
    metadata: dict[str, str] = Field(description="The caller's labels.")


class DeletedConversation(Answer):
    """What is gone."""

    id: str = Field(description="The conversation's id.")
    object: Literal["conversation.deleted"] = Field(description="What this is.")
    deleted: Literal[True] = Field(description="That it is.")
