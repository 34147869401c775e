"""Stop strings over text that comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.worker.watch import StopMatcher, TextWatch

PIECES = st.lists(st.text(alphabet="abc", max_size=4), max_size=12)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3).map(tuple)


def feed(matcher: StopMatcher, pieces: list[str]) -> tuple[str, bool]:
    shown = ""
    for piece in pieces:
        text, hit = matcher.push(piece)
        shown += text
        if hit:
            return shown, True
    return shown + matcher.flush(), False


@given(PIECES, STOPS)
def test_shows_all_text_up_to_the_first_match(pieces: list[str], stops: tuple[str, ...]) -> None:
    """Against the definition: the shortest beginning of the whole text that contains a stop string, cut before it."""
    whole = "".join(pieces)
    shown, hit = feed(StopMatcher(stops), pieces)
    matches = [whole.find(s) for s in stops if s in whole]
    assert hit == bool(matches)
    if not matches:
        assert shown == whole
        return
    # Pieces come one at a time: what is complete in the earliest piece wins, then what begins first.
    seen = ""
    for piece in pieces:
        seen += piece
        found = [seen.find(s) for s in stops if s in seen]
        if found:
            assert shown == seen[: min(found)]
            return


@given(PIECES, STOPS)
def test_never_shows_what_might_still_become_a_stop_string(pieces: list[str], stops: tuple[str, ...]) -> None:
    matcher, shown, seen = StopMatcher(stops), "", ""
    for piece in pieces:
        text, hit = matcher.push(piece)
        shown, seen = shown + text, seen + piece
        if hit:
            return
        possible = [n for s in stops for n in range(1, len(s)) if seen.endswith(s[:n])]
        assert shown == seen[: len(seen) - max(possible, default=0)]


def test_without_stop_strings_nothing_is_held_back() -> None:
    matcher = StopMatcher(())
    assert matcher.push("abc") == ("abc", False)
    assert matcher.flush() == ""


class Decoder:
    """Token n is the n-th letter; the last letter is completed only at the end."""

    def push(self, token_id: int) -> str:
        return "abcdefgh"[token_id]

    def flush(self) -> str:
        return "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("stop", "released", "stopped", "rest"),
    [
        ((), ["a", "b", "c"], False, "\N{REPLACEMENT CHARACTER}"),
        (("bx",), ["a", "", "bc"], False, "\N{REPLACEMENT CHARACTER}"),
        (("bc",), ["a", "", ""], True, ""),
        (("cd",), ["a", "b", ""], False, "c\N{REPLACEMENT CHARACTER}"),
        (("c\N{REPLACEMENT CHARACTER}",), ["a", "b", ""], False, ""),
    ],
)
def test_watch_releases_text_token_by_token(
    stop: tuple[str, ...], released: list[str], stopped: bool, rest: str
) -> None:
    watch = TextWatch(Decoder(), stop)
    pushed = [watch.push(n) for n in range(3)]
    assert pushed == [False, False, stopped]
    assert [watch.take() for _ in range(3)] == released
    assert watch.flush() == rest
