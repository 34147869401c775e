"""What the completions, responses and models routes answer, for the document. A test holds real answers to these:
nothing is missing, nothing is more."""

from typing import Any, Literal

from pydantic import Field

from server.api.schemas.answers import Answer, Restored


class ModelAnswer(Answer):
    """A name that the served model answers to."""

    id: str = Field(description="The name: send it as `model`.")
    object: Literal["model"] = Field(description="What this is.")
    created: int = Field(description="Unix time, s: when the youngest worker started; 0 where none lives.")
    owned_by: str = Field(description="Who serves it.")
    root: str = Field(description="The model's own name, where `id` is an alias.")


class ModelList(Answer):
    """Every name."""

    object: Literal["list"] = Field(description="What this is.")
    data: list[ModelAnswer] = Field(description="The model's own name, then its aliases.")


class Cached(Answer):
    """Of the tokens of a prompt."""

    cached_tokens: int = Field(description="Those taken from a state instead of being read again.")


class CompletionUsage(Answer):
    """What all choices together cost."""

    prompt_tokens: int = Field(description="Of the whole conversation, whether it was read again or not.")
    completion_tokens: int = Field(description="Tokens that were generated.")
    total_tokens: int = Field(description="Both.")
    prompt_tokens_details: Cached = Field(description="Of the prompt's tokens.")


class Begun(Answer):
    """Where one answer began: what to send to go on from it, or to make it again."""

    session_id: str | None = Field(description="The session to continue; null where nothing is kept.")
    generation: str = Field(description="The generation's id.")
    turn: str | None = Field(description="The turn that was committed; null where none was.")
    continued_from: str | None = Field(description="The turn it continues; null for one from the beginning.")
    seed: int | None = Field(description="The seed it ran with.")
    restored: Restored | None = Field(description="Where its state came from.")


class BegunChoice(Begun):
    """The same of one of several choices."""

    index: int = Field(description="Which of them.")


class About(Begun):
    """Of the first choice, and of the request."""

    known_messages: int | None = Field(None, description="How many of the messages were recognised.")
    why: str | None = Field(None, description="Why no more of them were; null where no more could be expected.")
    choices: list[BegunChoice] | None = Field(None, description="Each choice, where there are several.")


class Likely(Answer):
    """A token and how likely it was."""

    token: str = Field(description="Its text; U+FFFD stands for a part of a character.")
    logprob: float = Field(description="The natural logarithm of its probability.")
    bytes: list[int] = Field(description="Its bytes.")


class Drawn(Likely):
    """A token that was drawn."""

    top_logprobs: list[Likely] = Field(description="The likeliest in its place.")


class ChatLogprobs(Answer):
    """The log probabilities of a choice."""

    content: list[Drawn] = Field(description="For each token.")
    refusal: None = Field(description="Nothing is refused this way.")


class Said(Answer):
    """An answer's message."""

    role: Literal["assistant"] = Field(description="Who says it.")
    content: str = Field(description="What is said.")
    refusal: None = Field(description="Nothing is refused this way.")


class ChatChoice(Answer):
    """One of the answers."""

    index: int = Field(description="Which of them.")
    message: Said = Field(description="The answer.")
    logprobs: ChatLogprobs | None = Field(description="Where they were asked for.")
    finish_reason: Literal["stop", "length"] = Field(description="Whether the model ended it, or `max_tokens` did.")


class ChatAnswer(Answer):
    """A chat completion, as OpenAI has it; `perennial` says what became of the session."""

    id: str = Field(description="Its id.")
    object: Literal["chat.completion"] = Field(description="What this is.")
    created: int = Field(description="Unix time, s.")
    model: str = Field(description="The served model's name.")
    system_fingerprint: str = Field(description="Of the model with its settings: the same where answers can be.")
    metadata: dict[str, str] | None = Field(None, description="The request's labels.")
    choices: list[ChatChoice] = Field(description="`n` of them.")
    usage: CompletionUsage = Field(description="What it cost.")
    perennial: About = Field(description="Not OpenAI's: where it began.")


class TextLogprobs(Answer):
    """The log probabilities of a text, token by token."""

    tokens: list[str] = Field(description="Their texts.")
    token_logprobs: list[float] = Field(description="The natural logarithms of their probabilities.")
    top_logprobs: list[dict[str, float]] = Field(description="The likeliest in each place.")
    text_offset: list[int] = Field(description="In which character of the text each begins.")


class TextChoice(Answer):
    """One of the texts."""

    index: int = Field(description="Which of them: prompt by prompt, `n` of each.")
    text: str = Field(description="What follows the prompt.")
    logprobs: TextLogprobs | None = Field(description="Where they were asked for.")
    finish_reason: Literal["stop", "length"] = Field(description="Whether the model ended it, or `max_tokens` did.")


class CompletionAnswer(Answer):
    """A completion, as OpenAI has it; `perennial` says what became of the session."""

    id: str = Field(description="Its id.")
    object: Literal["text_completion"] = Field(description="What this is.")
    created: int = Field(description="Unix time, s.")
    model: str = Field(description="The served model's name.")
    system_fingerprint: str = Field(description="Of the model with its settings: the same where answers can be.")
    choices: list[TextChoice] = Field(description="`n` for each prompt.")
    usage: CompletionUsage = Field(description="What it cost.")
    perennial: About = Field(description="Not OpenAI's: where it began.")


class OutputText(Answer):
    """What a message says."""

    type: Literal["output_text"] = Field(description="What this is.")
    text: str = Field(description="The text.")
    annotations: list[Any] = Field(max_length=0, description="Always empty.")
    logprobs: list[Drawn] = Field(description="For each token, where they were asked for and are still kept.")


class OutputMessage(Answer):
    """A response's message."""

    id: str = Field(description="Its id.")
    type: Literal["message"] = Field(description="What this is.")
    status: Literal["in_progress", "completed", "incomplete"] = Field(description="How far it is.")
    role: Literal["assistant"] = Field(description="Who says it.")
    content: list[OutputText] = Field(description="What is said: one text.")


class ResponseError(Answer):
    """Why a response failed."""

    code: Literal["server_error"] = Field(description="The kind of error.")
    message: str = Field(description="What went wrong.")


class Incomplete(Answer):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"] = Field(description="It has as many tokens as it may.")


class OfConversation(Answer):
    """A conversation's name."""

    id: str = Field(description="Its id.")


class Reasoning(Answer):
    """The model has none."""

    effort: None = Field(description="Null.")
    summary: None = Field(description="Null.")


class TextKind(Answer):
    """What is said."""

    type: Literal["text"] = Field(description="Text.")


class TextFormat(Answer):
    """How it is said."""

    format: TextKind = Field(description="As what.")


class ReasoningTokens(Answer):
    """Of the tokens of an answer."""

    reasoning_tokens: Literal[0] = Field(description="The model has no reasoning.")


class ResponseUsage(Answer):
    """What a response cost."""

    input_tokens: int = Field(description="Of the whole conversation, whether it was read again or not.")
    input_tokens_details: Cached = Field(description="Of the input's tokens.")
    output_tokens: int = Field(description="Tokens that were generated.")
    output_tokens_details: ReasoningTokens = Field(description="Of the output's tokens.")
    total_tokens: int = Field(description="Both.")


class ResponseAnswer(Answer):
    """A response, as OpenAI has it; `perennial` says which session, generation and turn it is."""

    id: str = Field(description="Its id: send it as `previous_response_id`.")
    object: Literal["response"] = Field(description="What this is.")
    created_at: int = Field(description="Unix time, s.")
    completed_at: int | None = Field(description="Unix time, s; null where it is not completed.")
    status: Literal["queued", "in_progress", "completed", "incomplete", "cancelled", "failed"] = Field(
        description="How far it is."
    )
    error: ResponseError | None = Field(description="Why it failed.")
    incomplete_details: Incomplete | None = Field(description="Why it is incomplete.")
    background: bool = Field(description="Whether it is made without its client.")
    instructions: str | None = Field(description="As the request has it.")
    max_output_tokens: int | None = Field(description="As the request has it.")
    max_tool_calls: int | None = Field(description="As the request has it.")
    metadata: dict[str, str] = Field(description="The request's labels.")
    model: str = Field(description="The served model's name.")
    parallel_tool_calls: bool = Field(description="As the request has it.")
    previous_response_id: str | None = Field(description="The response it continues.")
    prompt_cache_key: str | None = Field(description="As the request has it.")
    safety_identifier: str | None = Field(description="As the request has it.")
    store: bool = Field(description="Whether it is kept.")
    temperature: float = Field(description="It was made with this.")
    top_logprobs: int = Field(description="How many were asked for.")
    top_p: float = Field(description="It was made with this.")
    truncation: Literal["disabled", "auto"] = Field(description="As the request has it: nothing is truncated.")
    user: str | None = Field(description="As the request has it.")
    conversation: OfConversation | None = Field(description="The conversation it is a part of.")
    output: list[OutputMessage] = Field(description="One message of the assistant's, or none yet.")
    reasoning: Reasoning = Field(description="None.")
    service_tier: Literal["default"] = Field(description="There is one.")
    text: TextFormat = Field(description="What is said, and how.")
    tool_choice: Literal["auto"] = Field(description="No tool is ever called.")
    tools: list[Any] = Field(max_length=0, description="Always empty.")
    usage: ResponseUsage | None = Field(description="What it cost, once it has ended.")
    perennial: About = Field(description="Not OpenAI's: where it began.")
