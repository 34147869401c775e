"""Values that are put together: dates, times, cards, codes of letters and digits. They open nothing, and name nobody.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests). It knows nothing of tokens.
"""

from __future__ import annotations

import random
from itertools import product

from model.training.relations import DAYS, MONTHS, words

CARDS = tuple(
    f"{rank} of {suit}"
    for rank, suit in product(
        words("two three four five six seven eight nine ten jack queen king ace"), words("clubs spades hearts diamonds")
    )
)
CHESS = tuple(f"{side} {piece}" for side in ("white", "black") for piece in words("king queen rook bishop knight pawn"))
BLOOD = tuple(f"{kind} {sign}" for kind, sign in product(("A", "B", "AB", "O"), ("positive", "negative")))
DATES = tuple(f"{month} {day}" for month, day in product(MONTHS, range(1, 29)))
HALF_DAYS = tuple(f"{day} {part}" for day, part in product(DAYS, ("morning", "afternoon", "evening")))
CLOCK = tuple(f"{h}:{m:02d} {half}" for h, m, half in product(range(1, 13), range(0, 60, 5), ("am", "pm")))
SPANS = tuple(f"{n} {unit}" for n, unit in product(range(2, 31), ("minutes", "hours", "days", "weeks", "months")))
DISTANCES = tuple(f"{n} {unit}" for n, unit in product(range(3, 98, 4), ("miles", "kilometres", "metres")))

# Codes of letters and digits.
_RNG = random.Random(20)  # noqa: S311  # texts are drawn, not secrets
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def _codes(shape: str, count: int = 200) -> tuple[str, ...]:
    """Different codes: A in the shape stands for a letter, 0 for a digit."""
    kinds = {"A": _LETTERS, "0": "0123456789"}
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(_RNG.choice(kinds.get(place, place)) for place in shape)] = None
    return tuple(found)


CODES = _codes("AA-000")
LONG_CODES = (*_codes("0AA0-AA00", 100), *_codes("AAAA-0000", 100))
PLATES = (*_codes("AAA 000", 100), *_codes("A-AA 0000", 100))
FLIGHTS = (*_codes("AA000", 100), *_codes("AA 0000", 100))
SEATS = tuple(f"{row}{letter}" for row, letter in product(range(1, 41), "ABCDEF"))
PHONES = _codes("555-0000")
PASSWORDS = tuple(
    f"{first}{_RNG.choice(('-', '_', ''))}{second}{_RNG.randrange(10, 1000)}"
    for first, second in product(
        words("sunny purple lazy happy tiny brave salty fuzzy clever rapid spicy jolly"),
        words("goose rocket pizza tiger cactus wizard teapot banana robot comet pirate mitten panda"),
    )
)
