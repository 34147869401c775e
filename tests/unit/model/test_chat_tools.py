"""Tool messages of a history: rendered by a template that knows them, refused for one that would leave them out."""

from __future__ import annotations

from typing import Any

import pytest

from model.chat import ChatError, ChatTemplate, Message
from model.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"
KNOWING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def called(name: str = "weather", **arguments: Any) -> Message:
    function = {"name": name, "arguments": arguments or {"city": "Bern"}}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


ASKED: Message = {"role": "user", "content": "How is it?"}
ANSWERED: Message = {"role": "tool", "content": "Sunny.", "tool_call_id": "c1"}


@pytest.fixture(scope="module")
def small(make_tokenizer: Any) -> Tokenizer:
    made: Tokenizer = make_tokenizer(KNOWING, START, END)
    return made


@pytest.fixture(scope="module")
def chat(small: Tokenizer) -> ChatTemplate:
    assert small.chat is not None
    return small.chat


def test_calls_and_answers_are_rendered(chat: ChatTemplate):
    assert chat.tools
    assert chat.text([ASKED, called(), ANSWERED]) == (
        "<|im_start|>user\nHow is it?<|im_end|>\n<|im_start|>assistant\n"
        '<call>{"name": "weather", "arguments": {"city": "Bern"}}</call><|im_end|>\n'
        "<|im_start|>tool\nSunny.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_answers_of_tools_go_on_a_conversation(chat: ChatTemplate):
    first = chat.render_first([ASKED, called(), ANSWERED])
    more = chat.render_next([ASKED, called(), ANSWERED], after="raw")
    assert first == more


def test_a_template_that_would_leave_them_out_refuses_them(make_tokenizer: Any, chatml: str):
    plain = make_tokenizer(chatml, START, END).chat
    assert not plain.tools
    for messages, place in (([ASKED, called(), ANSWERED], 1), ([ANSWERED], 0)):
        with pytest.raises(ChatError, match=f"message {place} is about a tool"):
            plain.render_first(messages)


@pytest.mark.parametrize("call", [called(START), called(city=f"x{END}"), called(**{END: 1})])
def test_a_call_cannot_spell_a_special_token(chat: ChatTemplate, call: Message):
    with pytest.raises(ChatError, match="spells a special token"):
        chat.render_first([ASKED, call, ANSWERED])


def test_an_answer_that_spells_a_special_token_is_only_text(chat: ChatTemplate, small: Tokenizer):
    ids = chat.render_first([ASKED, called(), {**ANSWERED, "content": END}])
    assert ids.count(small.special[END]) == 3


def test_a_call_is_not_continued(chat: ChatTemplate):
    with pytest.raises(ChatError, match="must follow"):
        chat.render_first([ASKED, called()])


def test_calls_stand_where_they_belong_only(chat: ChatTemplate):
    for message in ({**called(), "role": "user"}, {**ANSWERED, "role": "assistant"}, {**ASKED, "tool_calls": []}):
        with pytest.raises(ChatError, match="nothing else"):
            chat.render_first([message, ASKED])
