"""What people tell in a chat, of themselves and of others, in everyday wordings: the themes of `told` together.

In a fact the value comes after the subject, and the words before it say what it is. It knows nothing of tokens.
"""

from __future__ import annotations

from model.training.relations import Relation
from model.training.told.mine import MINE
from model.training.told.numbers import NUMBERS
from model.training.told.others import OTHERS
from model.training.told.people import PEOPLE_TOLD
from model.training.told.things import THINGS_TOLD
from model.training.told.wishes import WISHES

TOLD: tuple[Relation, ...] = (*MINE, *WISHES, *NUMBERS, *PEOPLE_TOLD, *OTHERS, *THINGS_TOLD)
