"""Messages to token ids, by the model's own chat template.

Invariants: the tokens of a first turn are the template's rendering, as `transformers` gives them; the tokens of a later
turn are what the same rendering has after a conversation that stands there already, so that turn after turn feeds the
model exactly one rendering of the whole. Text in a message is only ever text: where it spells a special token, it is
tokenised as the characters it is made of, and cannot open or close a role.

It knows nothing of sessions. A template that refuses messages may quote them: a `ChatError` is for the client who sent
them, not for a log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from model.tokenizer import Tokenizer

Message = Mapping[str, Any]
After = Literal["eos", "open", "raw"]

# `developer` is OpenAI's newer word for `system`.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

_ANSWER = "An answer."  # the assistant's text in the conversation that stands for any other
# What only some templates know: that an assistant called a tool, and what that answered.
_CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": {"where": "the shelf"}}}
_CALLED: tuple[Message, ...] = (
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "It is there.", "tool_call_id": "call_1"},
)
_OF_TOOLS = {"assistant": "tool_calls", "tool": "tool_call_id"}
_BEFORE: tuple[Message, ...] = ({"role": "user", "content": "A question."}, {"role": "assistant", "content": _ANSWER})


class ChatError(ValueError):
    """The messages cannot be rendered by the model's chat template; the message says why."""


class _Generation(Extension):
    """`{% generation %}`, with which some templates mark the assistant's text for training: here just its body."""

    tags = {"generation"}  # noqa: RUF012  # the attribute jinja2 reads

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """One template with its tokeniser.

    stable: whether a rendering of more messages begins with the rendering of fewer; sessions need that.
    why: what is wrong where it is not stable, else "".
    end_id: the token with which the template ends an assistant's message, None where it uses no special token.
    closing: all the text that follows an assistant's message, the end token first.
    tools: whether it renders the tools that an assistant called, and what they answered.
    """

    def __init__(
        self,
        source: str,
        tokenizer: Tokenizer,
        variables: Mapping[str, str],
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Compile and probe. Never raises: a template that is broken is unstable, and says why when it is used."""
        self._tokenizer = tokenizer
        self._variables = dict(variables)
        self._clock = clock
        self._special = tokenizer.special_pattern
        self._special_anywhere = re.compile(f"(?={self._special.pattern})")  # also where two overlap
        self._heads, self._tails = _parts(tokenizer.special)
        self._template: jinja2.Template | None = None
        self.closing, self._rest = "", ""
        self.end_id: int | None = None
        self.stable, self.why = True, ""
        self.tools = False
        try:
            self._template = _compile(source)
            self._probe()
            self.tools = self._renders_tools()
        except ChatError as e:
            self.stable, self.why = False, str(e)

    def render_first(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation's first turn: the whole rendering, with the prompt for the assistant's answer.

        A last message that is the assistant's is left open, to be continued. Raises `ChatError`.
        """
        text, mark = self._render(self._checked(messages), self._clock())
        return self._encode(text, mark)

    def render_next(self, messages: Sequence[Message], *, after: After) -> list[int]:
        """Tokens that follow a conversation which stands already: its closing, the new messages, the prompt.

        after: what the conversation ends with: "eos", the template's end token; "open", an assistant's message that was
        cut off; "raw", text that was no chat. Raises `ChatError`, also where the template is not stable.
        """
        if not self.stable:
            raise ChatError(f"this model's chat template cannot continue a conversation: {self.why}")
        now = self._clock()
        before = self._text(_BEFORE, False, now)
        text, mark = self._render([*_BEFORE, *self._checked(messages)], now)
        if not text.startswith(before):
            raise ChatError("the chat template renders the earlier messages differently when these follow")
        to_come = {"eos": self._rest, "open": self.closing, "raw": ""}[after]
        head = self._tokenizer.encode(before.removesuffix(to_come), specials=True)
        ids = self._encode(text, mark)
        if ids[: len(head)] != head:
            raise ChatError("the chat template does not separate its messages with tokens of their own")
        return ids[len(head) :]

    def text(self, messages: Sequence[Message]) -> str:
        """`render_first` as text, for people; text that spells a special token cannot be told apart here."""
        text, mark = self._render(self._checked(messages), self._clock())
        return text.replace(mark, "") if mark else text

    def _probe(self) -> None:
        """Find out how an assistant's message is closed, and whether the template is stable. Raises `ChatError`."""
        now = self._clock()
        before = self._text(_BEFORE, False, now)
        if _ANSWER not in before:
            raise ChatError("it does not render what the assistant said")
        self.closing = before.rpartition(_ANSWER)[2]
        end = self._special.search(self.closing)
        self._rest = self.closing[end.end() :] if end else self.closing
        self.end_id = self._tokenizer.special[end[0].rstrip()] if end else None
        question: Message = {"role": "user", "content": "Another question."}
        longer = [*_BEFORE, question, {"role": "assistant", "content": "Another answer."}]
        for messages, prompt in (([*_BEFORE, question], True), (longer, False), ([*longer, question], True)):
            if not self._text(messages, prompt, now).startswith(before):
                raise ChatError("it renders earlier messages differently when others follow")
        if not self._text([*longer, question], True, now).startswith(self._text(longer, False, now)):
            raise ChatError("it renders earlier messages differently when others follow")
        head = self._tokenizer.encode(before, specials=True)
        for to_come in (self._rest, self.closing):
            part = self._tokenizer.encode(before.removesuffix(to_come), specials=True)
            if head[: len(part)] != part:
                raise ChatError("it does not close an assistant's message with tokens of their own")

    def _renders_tools(self) -> bool:
        """Whether nothing of a call and its answer is left out."""
        try:
            text = self._text([*_BEFORE[:1], *_CALLED], True, self._clock())
        except ChatError:
            return False
        return all(said in text for said in ("look_up", "where", "the shelf", "It is there."))

    def _checked(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as templates know them, `developer` as `system`. Raises `ChatError` naming what is wrong."""
        checked = [_checked_one(i, message) for i, message in enumerate(messages)]
        if not checked:
            raise ChatError("there are no messages")
        for i, message in enumerate(checked):
            if message["role"] == "tool" or "tool_calls" in message:
                if not self.tools:
                    raise ChatError(f"message {i} is about a tool, which this model's chat template cannot render")
                if any(self._places(text) for text in _texts(message.get("tool_calls"))):
                    raise ChatError(f"message {i} spells a special token in a tool call")
        if "tool_calls" in checked[-1]:
            raise ChatError("a message that called tools cannot be continued: what they answered must follow")
        return checked

    def _render(self, messages: Sequence[Message], now: datetime) -> tuple[str, str]:
        """The rendering, and the mark that stands in it before text which must not be read as a special token.

        The mark is "" where there is no such text: then the rendering is the template's, character for character.
        """
        places = [self._places(m["content"]) for m in messages]
        mark = ""
        if any(places):
            used = set().union(*_texts(messages))
            mark = next(c for c in map(chr, range(0xF0000, 0x110000)) if c not in used)  # a private use character
            messages = [
                {**m, "content": _insert(m["content"], at, mark)} for m, at in zip(messages, places, strict=True)
            ]
        continued = messages[-1]["role"] == "assistant"
        text = self._text(messages, not continued, now)
        if continued:
            if not text.endswith(self.closing) or not (self.stable or self.closing):
                raise ChatError("this model's chat template cannot continue an assistant's message")
            text = text.removesuffix(self.closing)
        return text, mark

    def _places(self, content: str) -> set[int]:
        """Where a mark is needed: before each special token spelled out, and where one could arise by joining."""
        places = {found.start() for found in self._special_anywhere.finditer(content)}
        # A template may strip the text: marks stand where they do not keep it from doing so.
        start, end = len(content) - len(content.lstrip()), len(content.rstrip())
        longest = max(map(len, self._heads), default=0)
        places.update(at for at in range(max(start, end - longest), end) if content[at:end] in self._heads)
        core = content[start:end]  # where it is empty, what follows a mark would be the template's
        if core and (core.startswith(self._tails) or any(core in text for text in self._tokenizer.special)):
            places.add(start)
        return places

    def _encode(self, text: str, mark: str) -> list[int]:
        if not mark:
            return self._tokenizer.encode(text, specials=True)
        # Between the template's own special tokens there is only text, and text is split nowhere else.
        ids: list[int] = []
        done = 0
        for found in self._special.finditer(text):
            if text[found.start() - 1 : found.start()] == mark:
                continue
            ids += self._plain(text[done : found.start()], mark)
            ids.append(self._tokenizer.special[found[0].rstrip()])
            done = found.end()
        return ids + self._plain(text[done:], mark)

    def _plain(self, text: str, mark: str) -> list[int]:
        ids = self._tokenizer.encode(text.replace(mark, ""), specials=False)
        if not self._tokenizer.special_ids.isdisjoint(ids):
            raise ChatError("the messages spell a special token that this model's tokeniser cannot read as text")
        return ids

    def _text(self, messages: Sequence[Message], prompt: bool, now: datetime) -> str:
        """Run the template. Raises `ChatError` with the template's own words."""
        if self._template is None:
            raise ChatError(self.why)
        try:
            return self._template.render(
                messages=[dict(m) for m in messages],
                add_generation_prompt=prompt,
                tools=None,
                documents=None,
                strftime_now=now.strftime,
                **self._variables,
            )
        except Exception as e:  # whatever a template can do wrong, the messages cannot be rendered
            raise ChatError(f"the chat template refuses these messages: {e}") from e


def _compile(source: str) -> jinja2.Template:
    """The environment chat templates are written for. Raises `ChatError`."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)  # jinja2's own would escape it for HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = tojson
    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError) as e:
        raise ChatError(f"the model's chat template is broken: {e}") from e


def _checked_one(i: int, message: Message) -> Message:
    """One message with the role that templates know. i: its place. Raises `ChatError` naming what is wrong."""
    names = {"role", "content"}
    if isinstance(message, Mapping) and (more := _OF_TOOLS.get(str(message.get("role")))) in message:
        names.add(str(more))
    if not isinstance(message, Mapping) or (wrong := set(message) ^ names):
        have = sorted(map(str, wrong)) if isinstance(message, Mapping) else type(message).__name__
        raise ChatError(f"message {i} must have role and content, and nothing else: {have}")
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or role not in _ROLES:
        raise ChatError(f"message {i} has the unknown role {role!r}; known are {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise ChatError(f"message {i} has content that is not a text")
    return {**message, "role": _ROLES[role]}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _insert(text: str, places: set[int], mark: str) -> str:
    """The text with a mark before each of the places."""
    cuts = [0, *sorted(places), len(text)]
    return mark.join(text[a:b] for a, b in pairwise(cuts)) if places else text


def _parts(special: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """What a special token can begin with, and what it can end with, itself left out."""
    cuts = [(text[:n], text[n:]) for text in special for n in range(1, len(text))]
    return frozenset(head for head, _ in cuts), tuple({tail for _, tail in cuts})
