"""Sessions as files over HTTP: receiving one, judging whether it fits the model, sending one.

Invariants: a file is never larger than `max_import_bytes`, nor waited for longer than `UPLOAD_S`, nor sent for longer
than `DOWNLOAD_S`; nothing of it reaches the store before its tokens are known to be the model's and its leaves to be
the ones the workers' kernels expect, since those trust a state's shapes; and to go on from any turn of it, a worker
reads no more again than one request may make it read.

It knows the format only through `server.store.archive_format`, and nothing of tensors.
"""

import asyncio
from collections.abc import Callable

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from model.spec_hash import spec_hash
from model.tokenizer import Tokenizer
from server.api.backend import View
from server.api.body import ClientGoneError, read_body
from server.api.sse import STALLED_S
from server.errors import FingerprintMismatch, InvalidRequest, NoWorker
from server.settings import Settings
from server.store.archive_format import Archive, within
from server.store.archive_manifest import refuse
from server.store.records import NewSession, Snapshot, Worker

MEDIA_TYPE = "application/octet-stream"
CHUNK = 1 << 18  # bytes handed to the server at once
UPLOAD_S = 600.0  # a file that takes longer holds a place that others wait for
DOWNLOAD_S = 600.0  # the same of one that is sent
TURNS = 64  # times `turns_kept` a file may have
_RUN = 1 << 20  # tokens looked at at once


async def read_file(request: Request, limit: int) -> bytes:
    """The body as it is. Raises TooLarge, InvalidRequest (another content type, too slow), ClientGoneError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise InvalidRequest(f"The file must be sent with Content-Type: {MEDIA_TYPE}.")
    try:
        async with asyncio.timeout(UPLOAD_S):
            return await read_body(request, limit, stalled_s=STALLED_S)
    except TimeoutError:
        raise InvalidRequest("The file did not arrive in time.") from None


def bounded(archive: Archive, settings: Settings) -> Archive:
    """What of the archive this server takes: see `within`. Raises InvalidArchive for too many turns, or too long a run
    that is in no snapshot."""
    if len(archive.turns) > TURNS * settings.turns_kept:
        refuse(f"it has {len(archive.turns)} turns; this server takes {TURNS * settings.turns_kept}")
    return within(archive, settings.max_prompt_tokens + settings.max_tokens_limit + settings.snapshot_every)


def fit(archive: Archive, view: View, tenant: str, tokenizer: Tokenizer) -> NewSession:
    """What the archive's session is made from. Slow for a large one; safe in any thread.

    Raises FingerprintMismatch naming both for another model's, InvalidArchive for tokens or leaves that are not this
    model's, NoWorker where no live worker says what leaves it has.
    """
    worker = view.check_served(archive.fingerprint, "session in the file")
    _check_tokens(archive, tokenizer)
    _check_leaves(archive, worker)
    info = worker.info
    return NewSession(tenant, str(info["model"]), str(info["fingerprint"]), int(info["state_bytes"]))


def _check_tokens(archive: Archive, tokenizer: Tokenizer) -> None:
    seen = np.zeros(tokenizer.vocab_size, np.bool_)
    for start in range(0, len(archive.tokens), _RUN):
        run = archive.tokens[start : start + _RUN]
        if run.min() < 0 or run.max() >= tokenizer.vocab_size:
            refuse(f"it has tokens that this model does not have (0 to {tokenizer.vocab_size - 1})")
        seen[run] = True
    if not all(tokenizer.is_valid(token) for token in np.flatnonzero(seen).tolist()):
        refuse("it has tokens that this model does not have")


def _check_leaves(archive: Archive, worker: Worker) -> None:
    if archive.spec is None:
        return
    served = worker.info.get("state_spec")
    if not isinstance(served, str):
        raise NoWorker("No worker is running that says what a state of its model is; try again shortly.")
    if archive.spec != served:
        raise FingerprintMismatch(
            f"The states in the file are of specification {archive.spec}; what is served now has {served}."
        )
    if any(_spec_of(snapshot) != served for snapshot in archive.snapshots.values()):
        refuse("its leaves are not those of the specification that it names")


def _spec_of(snapshot: Snapshot) -> str:
    return spec_hash((name, leaf.shape, leaf.dtype, leaf.ring_axis) for name, leaf in snapshot.leaves.items())


class Download(Response):
    """A file in chunks, so that a slow reader holds up nobody; given up when nothing is read for `STALLED_S`, or not
    all of it in `DOWNLOAD_S`."""

    media_type = MEDIA_TYPE

    def __init__(self, data: bytes, name: str, done: Callable[[], None]) -> None:
        """done: called once the file is no longer in memory for this answer, however it ended."""
        self.data = data
        self.done = done
        self.status_code = 200
        self.background = None
        self.init_headers({"Content-Length": str(len(data)), "Content-Disposition": f'attachment; filename="{name}"'})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ClientGoneError when the client does not read."""
        del scope, receive
        try:
            async with asyncio.timeout(DOWNLOAD_S):
                await self._send(send)
        except TimeoutError:
            raise ClientGoneError from None
        finally:
            self.done()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.data), CHUNK):
            body = self.data[start : start + CHUNK]
            async with asyncio.timeout(STALLED_S):
                await send({"type": "http.response.body", "body": body, "more_body": start + CHUNK < len(self.data)})
