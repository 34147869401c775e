"""What the native routes answer, for the document. A test holds real answers to these: nothing is missing, nothing is
more."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Origin(Answer):
    """What a session was forked from."""

    session: str = Field(description="The session.")
    turn: str | None = Field(description="The turn of it; null for one that had none yet.")


class SessionAnswer(Answer):
    """A session: a conversation, and the state that stands for it."""

    id: str = Field(description="Its id: send it as `session_id`.")
    object: Literal["session"] = Field(description="What this is.")
    model: str = Field(description="The model it belongs to.")
    position: int = Field(description="Tokens of its sequence.")
    state_bytes: int = Field(description="Size of its state, the same at every length.")
    stored_bytes: int = Field(description="What is stored for it; what it shares with a fork counts in both.")
    turns: int = Field(description="Turns that led to its head.")
    turns_kept: int = Field(description="How many of them, the newest, it can be rewound to or forked at.")
    tier: Literal["new", "slot", "ram", "redis"] = Field(
        description="Where its state is: nowhere yet, with a live worker, or in the store."
    )
    window_start: int | None = Field(
        description="The first position that is attended to exactly; null while no live worker serves its model."
    )
    head: str | None = Field(description="Its last committed turn: send it back as `if_turn` or `from_turn`.")
    running: str | None = Field(description="The generation that holds it now.")
    origin: Origin | None = Field(description="What it was forked from.")
    created: float = Field(description="Unix time, s.")
    updated: float = Field(description="Unix time, s.")
    expires: float = Field(description="Unix time, s: when it is gone unless it is used before.")


class TurnAnswer(Answer):
    """A committed turn. It never changes."""

    id: str = Field(description="Its id.")
    object: Literal["turn"] = Field(description="What this is.")
    parent: str | None = Field(description="The turn before it.")
    tokens: int = Field(description="How many it appended, read and generated together.")
    length: int = Field(description="Tokens of the sequence up to and with it.")
    end: str = Field(description="How the sequence ends with it: what the next turn must close before it begins.")
    finish: str = Field(description="Why its generation ended.")
    operation: str | None = Field(
        description="Of a turn that appended nothing, what it did to the memory: reset, svd-clean, freeze or unfreeze."
    )
    created: float = Field(description="Unix time, s.")


class SessionList(Answer):
    """A page of sessions."""

    object: Literal["list"] = Field(description="What this is.")
    data: list[SessionAnswer] = Field(description="The sessions, last used first.")
    has_more: bool = Field(description="Whether there is another page.")
    after: str | None = Field(description="Send it as `after` for the next page.")


class TurnList(Answer):
    """A page of turns."""

    object: Literal["list"] = Field(description="What this is.")
    data: list[TurnAnswer] = Field(description="The turns, newest first.")
    has_more: bool = Field(description="Whether there is another page.")
    after: str | None = Field(description="Send it as `after` for the next page.")


class Deleted(Answer):
    """What is gone."""

    id: str = Field(description="The session's id.")
    object: Literal["session.deleted"] = Field(description="What this is.")
    deleted: Literal[True] = Field(description="That it is.")


class Usage(Answer):
    """What a turn cost. Empty for one that was cancelled before it ran."""

    prompt_tokens: int = Field(0, description="New tokens that were read.")
    completion_tokens: int = Field(0, description="Tokens that were generated.")
    total_tokens: int = Field(0, description="Both.")
    cached_tokens: int = Field(0, description="Tokens taken from the state instead of being read again.")


class Restored(Answer):
    """Where a turn's state came from."""

    from_: Literal["new", "slot", "ram", "redis"] = Field(alias="from", description="The place; new: there was none.")
    replayed_tokens: int = Field(description="Tokens since the last snapshot that were read again.")


class GeneratedAnswer(Answer):
    """A turn's answer as a whole: what the events say together."""

    generation: str = Field(description="The generation's id.")
    session: str = Field(description="The session's id: send it with the next, and only the new messages.")
    turn: str | None = Field(description="The turn that was committed; null where none was (`store: false`).")
    text: str = Field(description="What was generated.")
    token_ids: list[int] = Field(description="The tokens of the text.")
    logprobs: list[dict[str, Any]] | None = Field(None, description="For each token, where they were asked for.")
    position: int = Field(description="Tokens of the session's sequence.")
    finish_reason: str = Field(description="stop, length or cancelled.")
    usage: Usage = Field(description="What it cost.")
    timing: dict[str, float | None] = Field(
        description="In s from the request on: `queued_s`, `first_token_s` (null without one), `total_s`."
    )
    restored: Restored = Field(description="Where the state came from.")
    seed: int = Field(description="The seed it ran with, drawn where none was sent.")
    prompt_tokens: int = Field(description="New tokens that were read.")


class GenerationAnswer(Answer):
    """A generation: one run of a turn, and what it has said so far."""

    id: str = Field(description="Its id.")
    object: Literal["generation"] = Field(description="What this is.")
    session: str = Field(description="Its session's id.")
    status: Literal["queued", "running", "done", "cancelled", "failed"] = Field(description="How far it is.")
    cancel: bool = Field(description="Whether its cancellation was asked for.")
    created: float = Field(description="Unix time, s.")
    updated: float = Field(description="Unix time, s.")
    last_event: str | None = Field(description="The id of its last event: follow from there with `after`.")
    text: str = Field(description="What was generated so far.")
    token_ids: list[int] = Field(description="The tokens of the text.")
    logprobs: list[dict[str, Any]] | None = Field(None, description="For each token, where they were asked for.")
    position: int | None = Field(None, description="Tokens of the session's sequence, once it runs.")
    restored: Restored | None = Field(None, description="Where the state came from, once it runs.")
    seed: int | None = Field(None, description="The seed, once it runs.")
    prompt_tokens: int | None = Field(None, description="New tokens that are read, once it runs.")
    finish_reason: str | None = Field(None, description="Why it ended, once it has.")
    usage: Usage | None = Field(None, description="What it cost, once it has ended.")
    timing: dict[str, float | None] | None = Field(None, description="Times of its parts in s, once it has ended.")
    turn: str | None = Field(None, description="The turn that was committed, if one was.")
    error: dict[str, Any] | None = Field(None, description="What went wrong, where it failed.")


class Tokens(Answer):
    """Text as tokens."""

    tokens: list[int] = Field(description="Their ids.")
    count: int = Field(description="How many they are.")


class Text(Answer):
    """Tokens as text."""

    text: str = Field(description="Special tokens are not shown; bytes that are no character become U+FFFD.")
