"""`perennial worker`: loads the model, starts the engine, and wires store, engine and worker together."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import Mapping
from importlib.metadata import version

import torch
from prometheus_client import start_http_server

from model.registry import Loaded
from model.svd_clean import Cut
from model.tokenizer import Tokenizer
from server.engine.loop import Engine
from server.loading import load, load_ops
from server.logs import get_logger
from server.settings import Settings
from server.store.store import StoreOptions, open_store
from server.tracing import open_tracing
from server.worker.beat import Heartbeat
from server.worker.metrics import WorkerMetrics
from server.worker.policies import CleanPolicy
from server.worker.worker import Identity, Policy, Worker

log = get_logger()

# How much more of a prompt is read per tick where no stream runs: nobody waits for the next token then.
ALONE = 4


def store_options(settings: Settings) -> StoreOptions:
    """The store as a worker uses it."""
    assert settings.redis_url is not None
    return StoreOptions(
        url=settings.redis_url,
        prefix=settings.key_prefix,
        session_ttl_s=settings.session_ttl_s,
        events_ttl_s=settings.events_ttl_s,
        max_queue=settings.max_queue,
        turns_kept=settings.turns_kept,
        outage_s=settings.store_patience_s,
    )


def prepare(settings: Settings) -> tuple[Loaded, Tokenizer]:
    """Model and tokeniser, compiled and on their threads. Raises as `server.loading.load` does."""
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    ops = load_ops(settings)
    loaded, tokenizer = load(settings, ops)
    ops.warm_up()
    if ops.name != "ref":
        # The backend has its own threads by now. What is left to torch is small, and its threads would wait for each
        # other, and for ours, longer than it takes.
        torch.set_num_threads(1)
    return loaded, tokenizer


async def run(settings: Settings) -> None:
    """Serve turns until SIGTERM or SIGINT: then finish or commit what runs, within `drain_s`, save states, and return.
    A second signal hurries: what runs is interrupted and committed at once."""
    began = time.time()
    tracing = open_tracing("worker", os.environ)
    loop = asyncio.get_running_loop()
    loaded, tokenizer = await asyncio.to_thread(prepare, settings)
    store = await open_store(store_options(settings))
    metrics = WorkerMetrics()
    metrics.state_bytes.set(loaded.model.spec.nbytes)
    fingerprint = f"{loaded.fingerprint}-{tokenizer.fingerprint[:8]}"
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    policy = Policy(
        *(settings.slots, settings.snapshot_every, settings.store_patience_s, settings.ram_bytes),
        clean=CleanPolicy(
            settings.memory_clean_idle_s,
            settings.memory_clean_every_writes,
            settings.memory_clean_rank,
            Cut(settings.memory_clean_energy, settings.memory_clean_max_rank or None, settings.memory_clean_drop_top),
        ),
    )
    worker = Worker(
        *(store, tokenizer, Identity(worker_id, fingerprint, loaded.model.spec, loaded.model.memory), policy, metrics),
        tracing=tracing,
    )
    engine = Engine(
        loaded.model,
        settings.slots,
        ALONE * settings.chunk_tokens,
        settings.chunk_tokens,
        worker.hand_over(loop),
        prompt_budget_alone=ALONE * settings.chunk_tokens,
    )
    worker.connect(engine)
    engine.start()

    def info() -> Mapping[str, object]:
        stats = engine.stats()
        metrics.look(stats, len(worker.claims.held))
        return {
            "model": settings.model,
            "fingerprint": fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "state_bytes": loaded.model.spec.nbytes,
            "state_spec": loaded.model.spec.hash(),
            "window": loaded.model.spec.window,
            "slots": settings.slots,
            "running": len(worker.claims.held),
            "waiting": stats.waiting,
            "device": str(loaded.model.device),
            "started": began,
            "version": version("perennial"),
        }

    beat = Heartbeat(store_options(settings), worker_id, info, lambda: worker.claims.held, lambda: engine.alive)
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, settings.host, metrics.registry)
    working = asyncio.create_task(worker.run(), name="worker")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        beat.start()
        log.info("worker ready", worker=worker_id, model=settings.model, seconds=round(time.time() - began, 2))
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await _drain(worker, settings.drain_s, hurry, working)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.to_thread(beat.stop)
        await asyncio.to_thread(engine.stop)
        await asyncio.gather(working, stopping, return_exceptions=True)
        await store.close()
        await asyncio.to_thread(tracing.close)
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error


async def _drain(worker: Worker, within_s: float, hurry: asyncio.Event, working: asyncio.Task[None]) -> None:
    """Let running turns end; on a second signal interrupt them. Either way they are committed, unless the worker itself
    ends meanwhile (`working`: its engine has died, say): then nothing is waited for."""
    draining = asyncio.create_task(worker.drain(within_s), name="drain")
    hurried = asyncio.create_task(hurry.wait(), name="hurry")
    try:
        await asyncio.wait({draining, hurried, working}, return_when=asyncio.FIRST_COMPLETED)
        if hurried.done() and not draining.done():
            worker.hurry()
        await asyncio.wait({draining, working}, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            await draining
    finally:
        hurried.cancel()
        draining.cancel()
        await asyncio.gather(hurried, draining, return_exceptions=True)
