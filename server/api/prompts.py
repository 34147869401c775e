"""From a checked body to the tokens a worker is to read, and the request it is to run.

Rules (`decisions.md`, "Text and tokens"): the first turn's messages are rendered whole, later ones as what follows the
sequence that stands; a raw prompt is encoded as plain text, with BOS only at position 0 and only where the tokeniser
has one; ids are taken as they are. All of it runs in a thread, since a long text takes long.

It does not know the store, nor what the worker does with the tokens.
"""

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor

from model.chat import ChatError
from model.tokenizer import Tokenizer, TokenizerError
from server.api.folding import asked
from server.api.schemas.generate import GenerateRequest, Message
from server.errors import InvalidRequest, TooLarge
from server.settings import Settings
from server.store.records import End, Session, TurnRequest

SEED_BITS = 53  # what every JSON reader keeps, so that a reported seed can be sent back


async def turn_request(
    body: GenerateRequest,
    session: Session | None,
    tokenizer: Tokenizer,
    settings: Settings,
    executor: Executor,
    before: str | None = None,
) -> TurnRequest:
    """What the worker is to run. session: what it continues, None for a new one. Raises InvalidRequest, TooLarge.

    before: the hash of the conversation that the body's messages follow, where the turn is to be found by it.

    The body has passed `check_bounds`.
    """
    loop = asyncio.get_running_loop()
    ids, history = await loop.run_in_executor(
        executor, lambda: (input_tokens(body, session, tokenizer), asked(before, body.messages))
    )
    param = "messages" if body.messages is not None else "prompt" if body.prompt is not None else "input_ids"
    if not ids:
        raise InvalidRequest(f"{param} has no tokens: there is nothing to read.", param=param)
    check_length(ids, param, settings)
    return TurnRequest(
        input_ids=tuple(ids),
        max_tokens=body.max_tokens or settings.max_tokens_default,
        sampling={
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
            "min_p": body.min_p,
            "repetition_penalty": body.repetition_penalty,
            "presence_penalty": body.presence_penalty,
            "frequency_penalty": body.frequency_penalty,
            "logit_bias": dict(body.logit_bias),
            "seed": secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
        },
        stop=tuple(body.stop),
        stop_token_ids=tuple(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
        raw=body.messages is None,
        store=body.store,
        logprobs=body.logprobs,
        on_disconnect=body.on_disconnect or "cancel",
        continue_final=body.messages is not None and body.messages[-1].role == "assistant",
        history=history,
    )


def check_wait(wait_s: float, settings: Settings) -> None:
    """Raise InvalidRequest where a client would wait longer than it may."""
    if wait_s > settings.max_wait_s:
        raise InvalidRequest(f"wait_s: should be at most {settings.max_wait_s:g}.", param="wait_s")


def check_bounds(body: GenerateRequest, tokenizer: Tokenizer, settings: Settings) -> None:
    """What depends on the settings or the model, and costs nothing to check. Raises InvalidRequest."""
    if body.max_tokens is not None and body.max_tokens > settings.max_tokens_limit:
        raise InvalidRequest(f"max_tokens: should be at most {settings.max_tokens_limit}.", param="max_tokens")
    check_wait(body.wait_s, settings)
    check_ids(body.stop_token_ids, "stop_token_ids", tokenizer)
    for key in body.logit_bias:
        if not tokenizer.is_valid(int(key)):
            raise InvalidRequest(
                f"logit_bias: {key} is not a token of this model (0 to {tokenizer.vocab_size - 1}).", param="logit_bias"
            )


def check_length(ids: object, param: str, settings: Settings) -> None:
    """Whether a list of ids, checked or not, has a length that is read here. Raises TooLarge.

    Anything but a list passes: it is the schema's to refuse. Called before the schema looks at each id, which for a
    body full of them would hold up every other request.
    """
    if isinstance(ids, list) and len(ids) > settings.max_prompt_tokens:
        raise TooLarge(
            f"{param} has {len(ids)} tokens; this server reads at most {settings.max_prompt_tokens} in one request. "
            "Send it in several turns.",
            param=param,
        )


def check_ids(ids: Sequence[int], param: str, tokenizer: Tokenizer) -> None:
    """Whether all ids are the model's. Slow for many; safe in any thread. Raises InvalidRequest naming the first."""
    strange = {token for token in set(ids) if not tokenizer.is_valid(token)}
    if strange:
        index = next(index for index, token in enumerate(ids) if token in strange)
        raise InvalidRequest(
            f"{param}[{index}] is not a token of this model (0 to {tokenizer.vocab_size - 1}).",
            param=f"{param}[{index}]",
        )


def input_tokens(body: GenerateRequest, session: Session | None, tokenizer: Tokenizer) -> list[int]:
    """The new tokens. Slow for a long text; safe in any thread. Raises InvalidRequest."""
    begun = session is not None and session.head is not None
    if body.input_ids is not None:
        check_ids(body.input_ids, "input_ids", tokenizer)
        return body.input_ids
    if body.messages is not None:
        return message_tokens(body.messages, tokenizer, after=session.end if begun and session else None)
    assert body.prompt is not None
    return prompt_tokens(body.prompt, tokenizer, first=not begun)


def prompt_tokens(prompt: str, tokenizer: Tokenizer, *, first: bool) -> list[int]:
    """Plain text; text that spells a special token is only text. Raises InvalidRequest."""
    try:
        ids = tokenizer.encode(prompt, specials=False)
    except TokenizerError as e:
        raise InvalidRequest(f"prompt: {e}.", param="prompt") from None
    if first and tokenizer.add_bos and tokenizer.bos_id is not None:
        return [tokenizer.bos_id, *ids]
    return ids


def message_tokens(messages: Sequence[Message], tokenizer: Tokenizer, *, after: End | None) -> list[int]:
    """Messages by the model's chat template. after: how the sequence ends that they follow, None at position 0.

    Raises InvalidRequest for a model without a template or with one that sessions cannot use.
    """
    chat = tokenizer.chat
    if chat is None:
        raise InvalidRequest("This model has no chat template: send prompt or input_ids.", param="messages")
    if not chat.stable:
        raise InvalidRequest(
            f"This model's chat template cannot be used for sessions ({chat.why}): send prompt or input_ids.",
            param="messages",
        )
    plain = [message.plain() for message in messages]
    try:
        if after is None:
            return chat.render_first(plain)
        return chat.render_next(plain, after=after.value)
    except (ChatError, TokenizerError) as e:
        raise InvalidRequest(f"messages: {e}.", param="messages") from None
