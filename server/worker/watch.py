"""Text as it is generated, and where it must stop.

`StopMatcher` holds text back while it could still become a stop string; `TextWatch` joins it to the incremental
decoder and is what the engine asks after each token (`engine.request.Watch`). Invariant: everything pushed comes out
exactly once, in order, up to the stop.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Decoder(Protocol):
    """What `model.tokenizer.IncrementalDecoder` offers."""

    def push(self, token_id: int) -> str:
        """The text that is final with this token."""
        ...

    def flush(self) -> str:
        """What is left at the end."""
        ...


class StopMatcher:
    """Finds the first of several strings in text that comes in pieces."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(s for s in stop if s)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is safe to show, and whether a stop string begins right after it."""
        if not self._stop:
            return text, False
        held = self._held + text
        found = [at for s in self._stop if (at := held.find(s)) >= 0]
        if found:
            self._held = ""
            return held[: min(found)], True
        keep = max(_overlap(held, s) for s in self._stop)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], False

    def flush(self) -> str:
        """What was held back and turned out to be text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that a `stop` could begin with, short of all of it."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0


class TextWatch:
    """One generation's text. `push` runs on the engine thread; `take` pops, elsewhere, what each push released."""

    def __init__(self, decoder: Decoder, stop: tuple[str, ...]) -> None:
        self._decoder = decoder
        self._matcher = StopMatcher(stop)
        self._released: deque[str] = deque()
        self.stopped = False

    def push(self, token: int) -> bool:
        """True where a stop string is complete; what is visible of this token is then the last text."""
        text, self.stopped = self._matcher.push(self._decoder.push(token))
        self._released.append(text)
        return self.stopped

    def take(self) -> str:
        """The text released by the next push that was not taken yet."""
        return self._released.popleft()

    def flush(self) -> str:
        """The rest, at the end of a generation that no stop string ended."""
        if self.stopped:
            return ""
        last, self.stopped = self._matcher.push(self._decoder.flush())
        return last if self.stopped else last + self._matcher.flush()
