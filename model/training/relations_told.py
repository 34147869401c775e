"""What people tell in a chat, of themselves and of others, in everyday wordings: the themes of `told` together.

The words before a value say what it is; the subject comes before it, but in `REVERSED`. It knows nothing of tokens.
"""

from __future__ import annotations

from model.training.relations import Relation
from model.training.told.chatter import CHATTER
from model.training.told.doings import DOINGS
from model.training.told.errands import ERRANDS
from model.training.told.goods import GOODS
from model.training.told.household import HOUSEHOLD
from model.training.told.mine import MINE
from model.training.told.numbers import NUMBERS
from model.training.told.others import OTHERS
from model.training.told.people import PEOPLE_TOLD
from model.training.told.reversed import REVERSED
from model.training.told.sites import SITES
from model.training.told.things import THINGS_TOLD
from model.training.told.wishes import WISHES

TOLD: tuple[Relation, ...] = (
    *MINE, *WISHES, *NUMBERS, *PEOPLE_TOLD, *OTHERS, *THINGS_TOLD,
    *HOUSEHOLD, *ERRANDS, *CHATTER, *DOINGS, *SITES, *GOODS, *REVERSED,
)  # fmt: skip
