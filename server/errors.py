"""Every error the server answers with, in one tree. A class's docstring is its default message.

    PerennialError
    ├── InvalidRequest          400  invalid_request
    │   ├── UnknownParameter    400  unknown_parameter
    │   ├── TooLarge            413  too_large
    │   ├── InvalidArchive      400  invalid_archive
    │   └── IdempotencyReused   422  idempotency_key_reused
    ├── Unauthorized            401  invalid_api_key
    ├── NotFound                404  not_found
    │   ├── SessionNotFound     404  session_not_found
    │   ├── GenerationNotFound  404  generation_not_found
    │   ├── TurnNotFound        404  turn_not_found
    │   ├── ResponseNotFound    404  response_not_found
    │   └── ConversationNotFound 404  conversation_not_found
    ├── SessionGone             410  session_gone
    ├── Conflict                409  conflict
    │   ├── SessionBusy         409  session_busy
    │   ├── FingerprintMismatch 409  fingerprint_mismatch
    │   ├── TurnMismatch        409  turn_mismatch
    │   ├── EmptySession        409  empty_session
    │   └── TooManyForks        409  too_many_forks
    ├── StorageLimit            403  storage_limit
    ├── QueueFull               429  queue_full          Retry-After
    ├── RateLimited             429  rate_limit_exceeded Retry-After
    ├── TooManyGenerations      429  too_many_generations Retry-After
    ├── StoreUnavailable        503  store_unavailable   Retry-After
    ├── NoWorker                503  no_worker           Retry-After
    ├── StoreFull               507  store_full
    ├── CorruptState            500  corrupt_state
    ├── Fenced                  500  fenced              a worker's own: someone newer holds the session
    └── StartupError            500  startup_error       the process can't start: printed, then exit

A message is read by the client: it names ids, parameters and figures, never a prompt's text or token ids, never the
store's address. It knows nothing of HTTP beyond the numbers.
"""

# The names say what happened to the caller, as their HTTP names do; an "Error" on each would say nothing more.
# ruff: noqa: N818
from __future__ import annotations

from typing import ClassVar


class PerennialError(Exception):
    """The server met an error it has no better name for."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    # Seconds after which asking again makes sense, sent as Retry-After; None where it does not.
    default_retry_after: ClassVar[float | None] = None
    # False is sent as `x-should-retry: false`, for what a retry can't mend; None leaves it to the client.
    should_retry: ClassVar[bool | None] = None

    def __init__(self, message: str | None = None, *, param: str | None = None, retry_after: float | None = None):
        """message: None takes the class's docstring; param: the request's field at fault; retry_after: seconds."""
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.param = param
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        super().__init__(self.message)

    def body(self) -> dict[str, dict[str, str | None]]:
        """The answer's body, in OpenAI's shape."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(PerennialError):
    """The request is not valid."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    should_retry = False


class UnknownParameter(InvalidRequest):
    """The request has a parameter this server does not know."""

    code = "unknown_parameter"


class TooLarge(InvalidRequest):
    """The request is larger than this server accepts."""

    status = 413
    code = "too_large"


class InvalidArchive(InvalidRequest):
    """The file is not a session that this server exported."""

    code = "invalid_archive"


class IdempotencyReused(InvalidRequest):
    """This idempotency key was used for another request."""

    status = 422
    code = "idempotency_key_reused"


class Unauthorized(PerennialError):
    """The API key is missing or not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    should_retry = False


class NotFound(PerennialError):
    """There is nothing here by this name."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    should_retry = False


class SessionNotFound(NotFound):
    """There is no session with this id."""

    code = "session_not_found"


class GenerationNotFound(NotFound):
    """There is no generation with this id."""

    code = "generation_not_found"


class TurnNotFound(NotFound):
    """The session has no such turn, or keeps it no more."""

    code = "turn_not_found"


class ResponseNotFound(NotFound):
    """There is no response with this id, or it is kept no more."""

    code = "response_not_found"


class ConversationNotFound(NotFound):
    """There is no conversation with this id."""

    code = "conversation_not_found"


class SessionGone(PerennialError):
    """This session has expired or was deleted; its state no longer exists."""

    status = 410
    type = "invalid_request_error"
    code = "session_gone"
    should_retry = False


class Conflict(PerennialError):
    """The request conflicts with the session's present state."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class SessionBusy(Conflict):
    """The session is running another generation."""

    code = "session_busy"
    should_retry = True


class FingerprintMismatch(Conflict):
    """The session belongs to another model, or to this model with other settings."""

    code = "fingerprint_mismatch"
    should_retry = False


class TurnMismatch(Conflict):
    """The session's head is not the turn that was expected."""

    code = "turn_mismatch"
    should_retry = False


class EmptySession(Conflict):
    """There is nothing in this session yet: it has no memory that could be looked at or changed."""

    code = "empty_session"
    should_retry = False


class TooManyForks(Conflict):
    """The session and its forks are too many; delete some of them first."""

    code = "too_many_forks"
    should_retry = False


class StorageLimit(PerennialError):
    """This tenant's sessions take as much of the store as they may; delete some of them first."""

    # Not 507, which is the server's own trouble and which clients try again: this one is for the tenant to mend.
    status = 403
    type = "permission_error"
    code = "storage_limit"
    should_retry = False


class QueueFull(PerennialError):
    """Too many turns are waiting; try again shortly."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"
    default_retry_after = 1.0


class RateLimited(PerennialError):
    """This tenant has sent as many requests as it may in a minute."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    default_retry_after = 1.0


class TooManyGenerations(PerennialError):
    """This tenant has as many generations queued and running as it may; try again when one has ended."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_generations"
    default_retry_after = 1.0


class StoreUnavailable(PerennialError):
    """The session store can't be reached; try again shortly."""

    status = 503
    code = "store_unavailable"
    default_retry_after = 2.0


class NoWorker(PerennialError):
    """No worker is running that could take this turn; try again shortly."""

    status = 503
    code = "no_worker"
    default_retry_after = 2.0


class StoreFull(PerennialError):
    """The session store is full; nothing was written."""

    status = 507
    code = "store_full"
    should_retry = False


class CorruptState(PerennialError):
    """Stored bytes of this session are damaged."""

    code = "corrupt_state"
    should_retry = False


class Fenced(PerennialError):
    """Another worker holds this session now; nothing was written."""

    code = "fenced"


class StartupError(PerennialError):
    """The server can't start."""

    code = "startup_error"
    should_retry = False
