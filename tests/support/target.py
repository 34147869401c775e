"""An api that a test throws things at, and what must still be so afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import psutil

from support.serving import Process

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Target:
    """An api to throw things at. headers: what lets one in."""

    url: str
    process: Process
    headers: dict[str, str]

    def rss(self) -> int:
        """Bytes of memory its process has."""
        return int(psutil.Process(self.process.popen.pid).memory_info().rss)

    def check(self) -> None:
        """It goes on: it answers, and its log has nothing that nobody foresaw."""
        assert self.process.popen.poll() is None, self.process.errors()[-4000:]
        ask = {"model": "tiny", "messages": [{"role": "user", "content": "Still there?"}], "max_tokens": 4}
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=ask, headers=self.headers, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion"), answer.text
        for broken in ("Traceback", '"level": "error"', '"level": "critical"'):
            assert broken not in self.process.errors(), self.process.errors().partition(broken)[2][:4000]
