"""Random operations on sessions against a plain model of what a session should be, over HTTP, with two workers.

The plain model: a session is a list of turns, a turn the tokens it added or what it did to the memory. Whatever is done
to sessions (turns, operations on the memory, forks, rewinds, implicit forks, copies by export and import, deletions, in
any order, over fewer slots than sessions), the next turn's tokens are those of the plain loop over all of the session's
turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from model.memory import Kind, Operation, Scope
from model.svd_clean import Cut
from support.conversation import generate
from support.fleet import Fleet, fleet
from support.oracle import Oracle

pytestmark = pytest.mark.timeout(570)

KEPT = 3
RUN = {"max_tokens": 7, "temperature": 0.8, "ignore_eos": True, "wait_s": 20}


Step = list[int] | Operation
Turn = tuple[str, Step]
OPERATIONS = (
    Operation(Kind.RESET, Scope.MEMORY),
    Operation(Kind.RESET, Scope.ALL),
    Operation(Kind.CLEAN, cut=Cut(0.7)),
    Operation(Kind.CLEAN, cut=Cut(1.0, max_rank=4, drop_top=1), layers=(3,)),
    Operation(Kind.FREEZE),
    Operation(Kind.UNFREEZE),
)


@dataclass
class Branch:
    """A session as it should be. turns: (turn id, its tokens or its operation), oldest first."""

    id: str
    turns: list[Turn]
    rewound: int = 0  # turns given up, by it or by what it was forked from: so many fewer may be kept

    @property
    def length(self) -> int:
        return sum(len(run) for _, run in self.turns if not isinstance(run, Operation))

    @property
    def talk(self) -> list[int]:
        """The places of the turns of the conversation."""
        return [i for i, (_, run) in enumerate(self.turns) if not isinstance(run, Operation)]


class Sessions(RuleBasedStateMachine):
    """See the module."""

    url: ClassVar[str]
    oracle: ClassVar[Oracle]
    branches = Bundle("branches")

    def __init__(self) -> None:
        super().__init__()
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.seed = 0
        self.known: dict[str, Branch] = {}

    def teardown(self) -> None:
        """What is left is as it should be; then it goes."""
        with closing(self.client):
            for branch in self.known.values():
                self.check(branch)
                assert self.client.delete(f"/v1/sessions/{branch.id}").status_code == 200

    def run_turn(self, text: str, before: Sequence[Turn], **body: str) -> tuple[str, str, list[int]]:
        """One turn and what it should say: its session, its id, its tokens."""
        self.seed += 1
        answer = generate(self.url, prompt=text, seed=self.seed, **RUN, **body)
        steps: list[Step] = [*(run for _, run in before), [*text.encode()]]
        assert answer.token_ids == self.oracle.next_after(steps, self.seed, RUN["max_tokens"])
        assert answer.start["position"] == Branch("", list(before)).length
        return answer.start["session"], answer.done["turn"], [*text.encode(), *answer.token_ids]

    def check(self, branch: Branch) -> None:
        """What the server says of a session."""
        said = self.client.get(f"/v1/sessions/{branch.id}").json()
        assert said["position"] == branch.length
        assert said["head"] == (branch.turns[-1][0] if branch.turns else None)
        listed = [turn["id"] for turn in self.client.get(f"/v1/sessions/{branch.id}/turns").json()["data"]]
        kept = [turn for turn, _ in branch.turns][-len(listed) :] if listed else []
        assert sorted(listed) == sorted(kept)
        assert len(listed) >= min(KEPT - branch.rewound, len(branch.turns))
        assert said["turns_kept"] == len(listed)

    def kept(self, branch: Branch) -> int:
        """How many of its turns can be gone back to."""
        kept = self.client.get(f"/v1/sessions/{branch.id}").json()["turns_kept"]
        assert isinstance(kept, int)
        return kept

    def note(self, session: str, turns: list[Turn], rewound: int = 0) -> Branch:
        branch = Branch(session, turns, rewound)
        self.known[session] = branch
        return branch

    TEXT = st.text("abc ", min_size=1, max_size=30)

    @rule(target=branches, text=TEXT)
    def begin(self, text: str) -> Branch:
        session, turn, run = self.run_turn(text, [])
        return self.note(session, [(turn, run)])

    @rule(branch=branches, text=TEXT)
    def go_on(self, branch: Branch, text: str) -> None:
        session, turn, run = self.run_turn(text, branch.turns, session_id=branch.id)
        assert session == branch.id
        branch.turns.append((turn, run))

    @rule(branch=branches, operation=st.sampled_from(OPERATIONS))
    def operate(self, branch: Branch, operation: Operation) -> None:
        body = operation.to_json() | {"wait_s": 20}
        kind = body.pop("kind")
        answer = self.client.post(f"/v1/sessions/{branch.id}/memory/{kind}", json=body)
        assert answer.status_code == 200, answer.text
        branch.turns.append((answer.json()["turn"], operation))

    @rule(target=branches, branch=branches, back=st.integers(0, KEPT - 1))
    def fork(self, branch: Branch, back: int) -> Branch:
        assume(len(branch.turns) > back)
        assume(back < self.kept(branch))
        stays = branch.turns[: len(branch.turns) - back]
        answer = self.client.post(f"/v1/sessions/{branch.id}/fork", json={"at_turn": stays[-1][0]})
        assert answer.status_code == 201, answer.text
        return self.note(answer.json()["id"], list(stays), branch.rewound + back)

    @rule(target=branches, branch=branches, back=st.integers(1, KEPT - 1), text=TEXT)
    def fork_by_going_on_from_an_earlier_turn(self, branch: Branch, back: int, text: str) -> Branch:
        assume(len(branch.turns) > back)
        assume(back < self.kept(branch))
        stays = branch.turns[: len(branch.turns) - back]
        session, turn, run = self.run_turn(text, stays, session_id=branch.id, from_turn=stays[-1][0])
        assert session not in self.known
        return self.note(session, [*stays, (turn, run)], branch.rewound + back)

    @rule(branch=branches, back=st.integers(1, KEPT - 1))
    def rewind(self, branch: Branch, back: int) -> None:
        assume(len(branch.talk) > back)
        stays = branch.talk[-back]
        answer = self.client.post(f"/v1/sessions/{branch.id}/rewind", json={"turns": back})
        if answer.status_code == 404:  # what lies before it is kept no more
            assert len(branch.turns) - stays >= self.client.get(f"/v1/sessions/{branch.id}").json()["turns_kept"]
            return
        assert answer.status_code == 200, answer.text
        branch.rewound += len(branch.turns) - stays
        del branch.turns[stays:]

    @rule(target=branches, branch=branches)
    def copy_by_file(self, branch: Branch) -> Branch:
        exported = self.client.get(f"/v1/sessions/{branch.id}/export")
        assert exported.status_code == 200
        imported = self.client.post(
            "/v1/sessions/import", content=exported.content, headers={"Content-Type": "application/octet-stream"}
        )
        assert imported.status_code == 201, imported.text
        session = imported.json()["id"]
        listed = self.client.get(f"/v1/sessions/{session}/turns").json()["data"]
        names = listed[::-1]
        # Turns that were trimmed are in no file: they have no names here, but their tokens count.
        gone = branch.turns[: len(branch.turns) - len(names)]
        kept = branch.turns[len(branch.turns) - len(names) :]
        turns = [*gone, *((t["id"], run) for t, (_, run) in zip(names, kept, strict=True))]
        return self.note(session, turns, branch.rewound)

    @rule(branch=consumes(branches))
    def delete(self, branch: Branch) -> None:
        assert self.client.delete(f"/v1/sessions/{branch.id}").status_code == 200
        assert self.client.get(f"/v1/sessions/{branch.id}").status_code == 410
        del self.known[branch.id]

    @rule(branch=branches)
    def look(self, branch: Branch) -> None:
        self.check(branch)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Fleet]:
    """Two workers of two slots each and little RAM, so that states come from everywhere."""
    little = {"slots": "2", "turns_kept": str(KEPT), "ram_bytes": "100000"}
    with fleet(tmp_path_factory.mktemp("tree"), **settings | little) as made:
        made.worker()
        made.worker()
        yield made


@pytest.mark.full
@pytest.mark.parametrize("examples", [40])
def test_any_operations_in_any_order(served: Fleet, oracle: Oracle, examples: int) -> None:
    Sessions.url, _ = served.api()
    Sessions.oracle = oracle
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
