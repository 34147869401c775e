"""Ordinary talk: what is said to an assistant that it need not remember, and what the base model answers to it.

A memory that was only ever asked for facts finds something to recall in every question, and spoils every other answer.
So these stand among the filler it is trained on, and there it is to leave the base model alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.sampling import History, SamplingParams, sample
from model.state import Model, State, as_rows
from model.tokenizer import Tokenizer
from model.training.lessons import ANSWERED_CHAT, draw_lessons
from model.training.needles import frame_or_none
from model.training.relations import words

TOPICS = words(
    "the moon|rain|bread|the ocean|music|volcanoes|bees|the internet|dreams|mountains|history|friendship|football"
    "|trains|money|winter|plants|time|robots|paintings|sleep|gardens|horses|stars|tea|books|light|rivers|electricity"
    "|dinosaurs|school|big cities|birds|clouds|cheese|peace|love|the heart|gravity|the sky|cats|chess|farming|islands"
    "|the brain|old films|soup|bridges|maps|glass|insects|the desert|dancing|ships|ice|paper|doctors|the colour blue"
    "|my work|a long walk|breakfast|the weekend|numbers|languages|poetry|kings and queens|the wind|whales|bicycles"
    "|a good teacher|fire|the post office|snow|a small dog|computers|cooking|saving water|travelling alone|silence"
)
ASKED = words(
    "Why is {} important?|Tell me something about {}.|Write a short poem about {}.|Explain {} to a child.|What is {}?"
    "|What do people think of {}?|Tell me a joke about {}.|How does {} work?|Give me three facts about {}."
    "|I like {}. What about you?|Write a short story about {}.|Where can I learn about {}?|Can you describe {}?"
    "|When did {} begin?|Why?|I have been thinking about {} today.|What comes to your mind when you hear of {}?"
    "|Is there anything good about {}?|List five words about {}.|Summarise what you know about {}."
    "|Why do people like {}?|I don't like {}.|Could you help me with {}?|What should I know about {}?"
    "|Write a sentence with {} in it.|Compare {} and {}.|What is the difference between {} and {}?|And {}?"
)
SAID = words(
    "Thank you!|Hello!|Hi.|How are you?|Good morning.|What can you do?|Who are you?|What is 2 plus 3?"
    "|What is 7 times 6?|What is the capital of Italy?|How do I cook rice?|How do I fix a bike?"
    "|Can you help me?|That is interesting.|I am sad today.|What should I eat?|Translate hello to Spanish."
    "|What day comes after Monday?|How far is the sun?|Which animal is the largest?|Recommend a film.|Good night."
    "|See you later.|I don't understand.|Please go on.|What is the largest planet?|How many legs does a spider have?"
    "|Give me some advice.|What is your favourite colour?|Is it going to rain?|Tell me a riddle.|Okay.|Really?"
    "|Say that in other words.|Why is the grass green?|Who wrote Hamlet?|How do planes fly?|What is a noun?"
)
# What is answered to filler in a chat.
REPLIES = (*ANSWERED_CHAT, "Interesting.", "Hm.", "Yes.", "Tell me more.", "That is a long text.", "And then?")
AGAIN = 0.4  # of the turns, those that go on after another one
LONGEST = 96  # tokens of an answer
TEMPERATURES = (0.0, 0.7)


@dataclass(frozen=True, slots=True)
class Said:
    """Tokens of a turn, and how many of them come before the answer."""

    tokens: tuple[int, ...]
    asked: int


class Talk:
    """Draws turns. model: the base model, without a memory."""

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._frame = frame_or_none(tokenizer)

    def draw(self, rng: random.Random, count: int) -> list[Said]:
        """Turns with the base model's answers, likeliest or drawn; none where it has no template for a chat."""
        if self._frame is None:
            return []
        asked, params = [], []
        for _ in range(count):
            said: list[int] = self._encode(question(rng))
            before: tuple[int, ...] = ()
            if rng.random() < AGAIN:
                before = self._frame.turn(said, self._encode(rng.choice(REPLIES)), first=True)
                said = self._encode(question(rng))
            asked.append((*before, *self._frame.asked(said, first=not before)))
            params.append(SamplingParams(temperature=rng.choice(TEMPERATURES), seed=rng.getrandbits(63)))
        answers = self._answers(asked, params)
        return [Said((*row, *answer), len(row)) for row, answer in zip(asked, answers, strict=True)]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, specials=False)

    def _answers(self, asked: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> list[list[int]]:
        """What the model says to each, with what ends it."""
        state = State.zeros(self._model.spec, len(asked))
        logits, _ = self._model.advance(*as_rows(asked), state)
        answers: list[list[int]] = [[] for _ in asked]
        histories = [History() for _ in asked]  # nothing is penalised
        going = torch.ones(len(asked), dtype=torch.int64)
        for _ in range(LONGEST):
            tokens = [one.token for one in sample(logits, params, state["position"].tolist(), histories)]
            for b, token in enumerate(tokens):
                if going[b]:
                    answers[b].append(token)
                    going[b] = token not in self._tokenizer.eos_ids
            if not going.any():
                break
            logits, _ = self._model.advance(torch.tensor(tokens)[:, None], going, state)
        return answers


def question(rng: random.Random) -> str:
    """Something said in a chat: also questions about facts that nobody told, which the memory cannot know either."""
    draw = rng.random()
    if draw < 0.2:
        return rng.choice(SAID)
    if draw < 0.4:
        return draw_lessons(rng, 1)[0].question
    asked = rng.choice(ASKED)
    text = asked.format(*rng.sample(TOPICS, asked.count("{}")))
    return text[:1].upper() + text[1:]
