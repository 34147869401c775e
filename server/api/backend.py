"""What one api process holds: its settings, tokeniser and metrics, its connection to the store, its view of workers.

The store may be away when the process starts and at any time later; a task connects when it can and looks at the
queue and the heartbeats every `WATCH_S`, and takes the store for away when it has not answered within `LOOK_S`. Nobody
waits for that task: a request that needs the store while it is away is refused at once, with the reason.

Invariants: the api learns a model's fingerprint and state size only from live workers whose tokeniser is its own, so
ids it makes always mean the same to the worker that reads them. A wish to cancel is kept until the store has taken it.

It knows nothing of HTTP.
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from model.tokenizer import Tokenizer
from server.api.auth import Keyring
from server.api.limits import Limiter
from server.api.transfers import Transfers
from server.errors import FingerprintMismatch, GenerationNotFound, NoWorker, StoreUnavailable
from server.logs import get_logger
from server.metrics import ApiMetrics
from server.settings import Settings
from server.store.connection import within
from server.store.options import StoreOptions
from server.store.records import NewSession, Worker
from server.store.store import Store, open_store

WATCH_S = 0.5
LOOK_S = 3.0  # a store that hangs is noticed within this and WATCH_S
CLOSE_S = 2.0
TRANSFERS = 4  # sessions that are exported or imported at once: each is in memory as a whole
log = get_logger()


@dataclass(frozen=True, slots=True)
class View:
    """The system as it was seen. workers: those that serve this api's model; others: live ones that do not."""

    workers: tuple[Worker, ...]
    others: int
    queue_depth: int

    def new_session(self, tenant: str) -> NewSession:
        """What a session of the served model is made from: of the youngest worker's, which an upgrade leaves last."""
        info = max(self.workers, key=lambda worker: float(worker.info.get("started") or 0)).info
        return NewSession(tenant, str(info["model"]), str(info["fingerprint"]), int(info["state_bytes"]))

    def serving(self, fingerprint: str) -> Worker | None:
        """A live worker that could continue a session of this fingerprint."""
        return next((worker for worker in self.workers if worker.info.get("fingerprint") == fingerprint), None)

    def check_served(self, fingerprint: str, what: str = "session") -> Worker:
        """`serving`, or FingerprintMismatch that names both fingerprints."""
        worker = self.serving(fingerprint)
        if worker is None:
            served = sorted({str(worker.info.get("fingerprint")) for worker in self.workers})
            raise FingerprintMismatch(
                f"The {what} was made with model fingerprint {fingerprint}; what is served now has {', '.join(served)}."
            )
        return worker

    def alive(self, worker_id: str | None) -> bool:
        """Whether this worker lives."""
        return any(worker.id == worker_id for worker in self.workers)


class Backend:
    """See the module. `open` before serving, `close` after."""

    def __init__(self, settings: Settings, tokenizer: Tokenizer) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.metrics = ApiMetrics()
        access = settings.access()
        self.keys = Keyring(access.tenants)
        self.limits = Limiter(access, self.reachable)
        self.tokenising = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenise")
        self.transfers = Transfers(TRANSFERS)
        self._store: Store | None = None
        self._connecting = asyncio.Lock()
        self._away: StoreUnavailable | None = None  # why the last look failed, if it did
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    def open(self) -> None:
        """Begin to connect and to watch; returns at once, whether the store is there or not."""
        self.spawn(self._watch())

    async def close(self) -> None:
        """Give outstanding cancels a moment, then let go of everything."""
        for task in self._tasks:
            if task.get_name() == "watch":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        if self._store is not None:
            # Waited for, not cancelled: a connection that does not close dies with the process.
            await asyncio.wait({asyncio.create_task(self._store.close())}, timeout=CLOSE_S)
        self.tokenising.shutdown(wait=False, cancel_futures=True)

    def spawn(self, job: Coroutine[Any, Any, None], name: str = "watch") -> asyncio.Task[None]:
        """Run a job beside the requests; it is kept referenced and waited for at the end."""
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except StoreUnavailable:
                pass  # `look` has noted it
            except Exception:
                log.exception("watch_failed")  # such as a heartbeat that cannot be read; the next may be
            await asyncio.sleep(WATCH_S)

    async def look(self) -> View:
        """The system now, and what `metrics` say of it. Raises StoreUnavailable."""
        try:
            workers, depth = await within(LOOK_S, self._ask)
        except StoreUnavailable as e:
            self._gone(e)
            raise
        except TimeoutError:
            silent = StoreUnavailable("The session store does not answer; try again shortly.")
            self._gone(silent)
            raise silent from None
        self._away = None
        mine = tuple(w for w in workers if w.info.get("tokenizer") == self.tokenizer.fingerprint)
        view = View(mine, len(workers) - len(mine), depth)
        self.metrics.store_up.set(1)
        self.metrics.live_workers.set(len(mine))
        self.metrics.queue_depth.set(depth)
        return view

    async def _ask(self) -> tuple[list[Worker], int]:
        store = await self._connected()
        return await asyncio.gather(store.queue.live_workers(), store.queue.depth())

    def _gone(self, why: StoreUnavailable) -> None:
        if self._away is None:
            log.warning("store_away", reason=why.message)
        self._away = why
        self.metrics.store_up.set(0)
        self.metrics.live_workers.set(0)

    async def _connected(self) -> Store:
        async with self._connecting:
            if self._store is None:
                self._store = await self._connect()
        return self._store

    async def _connect(self) -> Store:
        s = self.settings
        if s.redis_url is None:
            raise StoreUnavailable("No store is configured: set PERENNIAL_REDIS_URL, or use `perennial serve`.")
        store = await open_store(
            StoreOptions(
                url=s.redis_url,
                prefix=s.key_prefix,
                session_ttl_s=s.session_ttl_s,
                events_ttl_s=s.events_ttl_s,
                max_queue=s.max_queue,
                turns_kept=s.turns_kept,
                outage_s=s.store_patience_s,
            )
        )
        log.info("store_connected")
        return store

    # What requests ask

    @property
    def store(self) -> Store:
        """The store. Raises StoreUnavailable before the first connection."""
        if self._store is None:
            raise StoreUnavailable
        return self._store

    def reachable(self) -> Store:
        """The store, unless it did not answer when it was last looked at. Raises StoreUnavailable at once."""
        if self._away is not None:
            raise StoreUnavailable(self._away.message)
        return self.store

    async def serving(self) -> View:
        """The system now, with at least one worker of this api's model. Raises NoWorker, StoreUnavailable.

        Looked at anew each time: a session made for a worker that has just gone would be nobody's.
        """
        if self._away is not None:
            raise StoreUnavailable(self._away.message)
        view = await self.look()
        if not view.workers:
            why = "The live workers serve another model than this api" if view.others else "No worker is running yet"
            raise NoWorker(f"{why}; try again shortly.")
        return view

    def cancel_soon(self, tenant: str, generation_id: str) -> None:
        """Cancel a generation whose client has left; tried again while the store is away, within its patience."""
        self.spawn(self._cancel(tenant, generation_id), name="cancel")

    async def _cancel(self, tenant: str, generation_id: str) -> None:
        deadline = time.monotonic() + self.settings.store_patience_s
        with contextlib.suppress(GenerationNotFound):
            while True:
                try:
                    await self.store.sessions.cancel(tenant, generation_id)
                except StoreUnavailable:
                    if time.monotonic() > deadline:
                        log.warning("cancel_lost", generation=generation_id)
                        return
                    await asyncio.sleep(WATCH_S)
                else:
                    return
