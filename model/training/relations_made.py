"""More relations, made from lists of words: many kinds of number that belong to somebody, many things somebody did.

A memory that has seen forty relations learns those forty; one that has seen some hundred words in the same few
constructions learns what a construction says. Wordings are drawn independently, as of those in `relations`.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.training.relations import (
    CITIES,
    COLOURS,
    COUNTRIES,
    DAYS,
    DISHES,
    DRINKS,
    FLOWERS,
    JOBS,
    LANGUAGES,
    MATERIALS,
    MONTHS,
    MUSIC,
    OBJECTS,
    PEOPLE,
    PETS,
    SPORTS,
    SUBJECTS,
    THINGS,
    VEHICLES,
    Relation,
    Subject,
    words,
)

# Numbers that somebody, or a place, or a thing has.
PERSONAL = words(
    "locker number|seat number|customer number|shoe size|account number|insurance number|licence number|lottery number"
    "|flight number|house number|post box|membership number|student number|extension|passport number|tax number"
    "|bed number|team number|weight|score|pager number|contract number|order number|case number|rank"
)
LOCAL = words(
    "alarm code|postal code|height|street number|network password|plan number|platform|key number|floor|altitude"
    "|lock combination|file number|gate number|capacity|depth|frequency|channel|budget|temperature|map reference"
)
OWN = words(
    "serial number|model number|PIN|weight in grams|price|inventory number|voltage|repair number|invoice number|size"
)

# What somebody did: as told, as asked, and what may follow.
_DEEDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("carried a", "carry", OBJECTS),
    ("repaired a", "repair", THINGS),
    ("designed a", "design", VEHICLES),
    ("sold a", "sell", THINGS),
    ("found a", "find", OBJECTS),
    ("borrowed a", "borrow", THINGS),
    ("broke a", "break", OBJECTS),
    ("inherited a", "inherit", THINGS),
    ("won a", "win", VEHICLES),
    ("feeds a", "feed", PETS),
    ("was bitten by a", "fear since", PETS),
    ("photographed a", "photograph", PETS),
    ("is training to be a", "want to become", JOBS),
    ("used to be a", "work as before", JOBS),
    ("would never be a", "not want to be", JOBS),
    ("is allergic to", "have to avoid", DISHES),
    ("hates", "hate", DISHES),
    ("ordered", "order", DISHES),
    ("spilled", "spill", DRINKS),
    ("sells", "sell", DRINKS),
    ("teaches", "teach", SUBJECTS),
    ("failed the exam in", "fail", SUBJECTS),
    ("dances to", "dance to", MUSIC),
    ("can't stand", "dislike", MUSIC),
    ("grew up in", "grow up in", CITIES),
    ("works in", "work in", CITIES),
    ("got lost in", "get lost in", CITIES),
    ("has never been to", "still want to see", COUNTRIES),
    ("sends letters to", "send letters to", COUNTRIES),
    ("voted for", "vote for", PEOPLE),
    ("is jealous of", "envy", PEOPLE),
    ("trusts", "trust", PEOPLE),
    ("was introduced to", "get to know", PEOPLE),
    ("translates from", "translate from", LANGUAGES),
    ("gave up", "give up", SPORTS),
    ("coaches", "coach", SPORTS),
    ("wears", "wear", COLOURS),
    ("planted", "plant", FLOWERS),
    ("is allergic to the smell of", "dislike the smell of", FLOWERS),
    ("builds furniture of", "build furniture of", MATERIALS),
    ("rests on", "rest on", DAYS),
    ("pays the rent on", "pay the rent on", DAYS),
    ("retires in", "retire in", MONTHS),
)

# What was done to a place or a thing, or what it is known for.
_STATES: tuple[tuple[Subject, str, str, tuple[str, ...]], ...] = (
    ("place", "was designed by", "Who designed the {s}?", PEOPLE),
    ("place", "is guarded by", "Who guards the {s}?", PEOPLE),
    ("place", "was sold to", "Who bought the {s}?", PEOPLE),
    ("place", "is famous for", "What is the {s} famous for?", DISHES),
    ("place", "smells of", "What does the {s} smell of?", FLOWERS),
    ("place", "is closed on", "On which day is the {s} closed?", DAYS),
    ("place", "reopens in", "In which month does the {s} reopen?", MONTHS),
    ("place", "is painted", "What colour is the {s}?", COLOURS),
    ("place", "is reached by", "How do people get to the {s}?", VEHICLES),
    ("place", "is a copy of one in", "Where is the model of the {s}?", CITIES),
    ("thing", "was made in", "Where was the {s} made?", COUNTRIES),
    ("thing", "belongs to", "Whose is the {s}?", PEOPLE),
    ("thing", "is covered with", "What is the {s} covered with?", MATERIALS),
    ("thing", "was found by", "Who found the {s}?", PEOPLE),
    ("thing", "arrives on", "On which day does the {s} arrive?", DAYS),
    ("thing", "was shipped to", "Where was the {s} shipped?", CITIES),
)


def _made() -> Iterator[Relation]:
    for what in PERSONAL:
        yield Relation(
            "person",
            "digits",
            (f"{{s}}'s {what} is {{v}}.", f"The {what} of {{s}} is {{v}}.", f"{{s}} was given the {what} {{v}}."),
            (f"What is {{s}}'s {what}?", f"Which {what} does {{s}} have?"),
            (f"{{s}}'s {what} is", f"The {what} of {{s}} is"),
        )
    owned: tuple[tuple[Subject, tuple[str, ...]], ...] = (("place", LOCAL), ("thing", OWN))
    for subject, whats in owned:
        for what in whats:
            yield Relation(
                subject,
                "digits",
                (f"The {{s}} has the {what} {{v}}.", f"The {what} of the {{s}} is {{v}}.", f"{{s}}, {what}: {{v}}."),
                (f"What is the {what} of the {{s}}?", f"Do you know the {what} of the {{s}}?"),
                (f"The {what} of the {{s}} is", f"The {{s}} has the {what}"),
            )
    for told, asked, values in _DEEDS:
        yield Relation(
            "person",
            values,
            (f"{{s}} {told} {{v}}.", f"We heard that {{s}} {told} {{v}}.", f"{{s}}, as you know, {told} {{v}}."),
            (f"What does {{s}} {asked}?", f"Who or what did {{s}} {asked}?"),
            (f"{{s}} {told}", f"I think {{s}} {told}"),
        )
    for subject, told, question, values in _STATES:
        yield Relation(
            subject,
            values,
            (f"The {{s}} {told} {{v}}.", f"They say that the {{s}} {told} {{v}}."),
            (question, f"Tell me about the {{s}}: {question[0].lower()}{question[1:]}"),
            (f"The {{s}} {told}", f"I believe the {{s}} {told}"),
        )


MADE = tuple(_made())
