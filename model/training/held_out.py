"""The words, templates and sentences of the evaluation, which no training may use.

Recall counts only where the needles of the test were never trained on: names, values, templates and filler are all of
them here and nowhere else. The split is by list, not by chance: whoever trains has lists of its own, and calls
`shared_with` on them before it starts; it must come back empty. Of corpora the split is by file (`corpus`).

A template is a fact, a question about it, and the beginning of the answer (the lead), after which only the value is
left to say. The value's tokens are what is scored.

It knows nothing of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal


def _words(text: str, between: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(between))


PEOPLE = _words(
    """Maren Torvald Ilse Quentin Odalys Bertram Saskia Leopold Yevgenia Caspian Philippa Anselm Rosalind Thaddeus
    Wilhelmina Octavio Beatrix Lysander Henrietta Evander Marguerite Ignatius Clementine Barnabas Seraphina Alaric
    Drusilla Fitzroy Guinevere Hollis Imogen Jasper Katarina Lucinda Mortimer Nerissa Osbert Perpetua Rutger Sunniva
    Tamsin Ulric Verity Winifred Xanthe Yorick Zelda Ambrose"""
)
ADJECTIVES = _words(
    "mossy crooked painted hollow drowsy striped slender dusty gilded nameless sunken windy shuttered thatched leaning "
    "forgotten"
)
PLACES = _words(
    "lighthouse orchard windmill chapel cellar greenhouse pavilion ferry quarry granary boathouse observatory stable "
    "aqueduct workshop attic"
)
INSTRUMENTS = _words(
    "oboe cello harp trumpet banjo bassoon clarinet accordion violin mandolin trombone piccolo zither bagpipe ukulele "
    "marimba lute tuba flute harmonica"
)
TOWNS = _words(
    "Lisbon Oslo Geneva Naples Dublin Prague Athens Vienna Hamburg Seville Krakow Antwerp Bergen Turin Riga Malmo "
    "Utrecht Porto Bruges Tampere"
)
ANIMALS = _words(
    "badger heron otter lynx falcon beaver hedgehog weasel tortoise raven gecko walrus lobster panther ferret pelican "
    "stork moose viper llama"
)
FOODS = _words(
    "lentils pancakes walnuts olives dumplings apricots mushrooms noodles pickles chestnuts radishes pretzels figs "
    "sardines turnips oysters almonds custard marmalade spinach"
)

DIGITS = 5  # of a number that is told


@dataclass(frozen=True, slots=True)
class Template:
    """One way to tell a fact and to ask for it. values: None for a number of `DIGITS` digits."""

    name: str
    subject: Literal["person", "place"]
    values: tuple[str, ...] | None
    fact: str
    question: str
    lead: str


TEMPLATES = (
    Template(
        "dial",
        "place",
        None,
        "Whoever wants to visit the {subject} has to dial {value} first.",
        "Which number has to be dialled to visit the {subject}?",
        "To visit the {subject} one has to dial",
    ),
    Template(
        "ledger",
        "place",
        None,
        "In the ledger the {subject} is entered under {value}.",
        "Under which number is the {subject} entered in the ledger?",
        "In the ledger the {subject} is entered under",
    ),
    Template(
        "ticket",
        "person",
        None,
        "{subject} drew ticket {value} in the raffle.",
        "Which ticket did {subject} draw?",
        "{subject} drew ticket",
    ),
    Template(
        "parcel",
        "person",
        None,
        "A parcel with the number {value} is waiting for {subject}.",
        "What is the number of the parcel that is waiting for {subject}?",
        "The parcel for {subject} has the number",
    ),
    Template(
        "plays",
        "person",
        INSTRUMENTS,
        "{subject} plays the {value} in the evenings.",
        "Which instrument does {subject} play?",
        "{subject} plays the",
    ),
    Template(
        "moved",
        "person",
        TOWNS,
        "{subject} moved to {value} after the wedding.",
        "Which town did {subject} move to?",
        "{subject} moved to",
    ),
    Template(
        "drew",
        "person",
        ANIMALS,
        "On the first page {subject} had drawn a picture of a {value}.",
        "What animal is on the picture that {subject} drew?",
        "The picture {subject} drew shows a",
    ),
    Template(
        "stores",
        "place",
        FOODS,
        "All winter long the {subject} was full of {value}.",
        "What was the {subject} full of?",
        "The {subject} was full of",
    ),
)

# How facts, questions and filler are put: as plain text, and as turns of a chat.
PLAIN_QUESTION = "\nQuestion: {question}\nAnswer: {lead}"
TELL, TOLD = "Please remember this: {fact}", "I will remember that."
HEARD = "I see."

REPEATED = "The tide came in, the tide went out, and nobody on the pier looked up from the nets. "

_WHO = _words(
    "the old baker|a tired clerk|the neighbour's nephew|every second tourist|the night nurse|an amateur botanist|the "
    "bus driver|one of the cousins|the choir|a retired sailor|the new teacher|a woman in a raincoat|the caretaker|half "
    "of the village|the postman|a travelling salesman",
    "|",
)
_DID = _words(
    "watched|ignored|described|carried|repaired|borrowed|complained about|hid|photographed|measured|sold|praised|"
    "looked for|swept around|leaned against|wrote about",
    "|",
)
_WHAT = _words(
    "a broken umbrella|the garden fence|three wet coats|the last train|an empty basket|some yellow curtains|the clock "
    "on the wall|a letter without a stamp|the smell of tar|a bucket of paint|the swans|a heap of gravel|her own shadow|"
    "the map of the coast|a wooden ladder|the kettle",
    "|",
)
_HOW = _words(
    "with great patience|for no reason at all|while it rained|until the lamps were lit|as if it were a holiday|on the "
    "way home|without saying a word|in the middle of the street|like everyone else|for the third time that week|"
    "before breakfast|under the bridge|to the sound of an organ|more out of habit than anything|and laughed|"
    "and went to bed early",
    "|",
)
_THEN = _words(
    "Nothing came of it.|The weather did not change.|It was the talk of the market.|Later there was soup.|The dog "
    "slept through all of it.|So the afternoon passed.|Some said it was an omen.|The band played on.",
    "|",
)


def sentences(rng: random.Random) -> Iterator[str]:
    """Varied sentences without end, none of which tells a fact that is asked for."""
    while True:
        who, did, what, how = (rng.choice(words) for words in (_WHO, _DID, _WHAT, _HOW))
        order = rng.randrange(3)
        if order == 0:
            yield f"{who[0].upper()}{who[1:]} {did} {what} {how}. "
        elif order == 1:
            yield f"It was {who} who {did} {what}, and {rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHAT)}. "
        else:
            yield f"{how[0].upper()}{how[1:]}, {who} {did} {what}. {rng.choice(_THEN)} "


def shared_with(words: Iterable[str] = (), texts: Iterable[str] = ()) -> list[str]:
    """What of somebody's training is the evaluation's too, and must not be.

    words: the names and values it uses, compared as whole words whatever their case. texts: its templates and filler
    sentences, with `{…}` for what is filled in; compared without that, their spacing and case.
    """
    own = {word.lower() for words_ in (PEOPLE, PLACES, INSTRUMENTS, TOWNS, ANIMALS, FOODS) for word in words_}
    own |= {word.lower() for word in ADJECTIVES}
    told = {_bare(text) for template in TEMPLATES for text in (template.fact, template.question, template.lead)}
    told |= {_bare(text) for text in (REPEATED, *_THEN)}
    return [word for word in words if not own.isdisjoint(word.lower().split())] + [
        text for text in texts if _bare(text) in told
    ]


def _bare(text: str) -> str:
    """A template without its blanks: letters and single spaces only."""
    outside = "".join(part.partition("}")[2] if "}" in part else part for part in text.split("{"))
    return " ".join("".join(c if c.isalpha() else " " for c in outside.lower()).split())
