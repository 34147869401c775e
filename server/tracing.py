"""Traces of requests and turns, where an operator asks for them by OpenTelemetry's own variables; else nothing at all.

    POST /v1/generate          an api's, from the request to its last byte
    ├── queue                  a worker's, from the turn's acceptance until it had it
    └── turn                   from there to its end
        ├── restore            until its state was in a slot
        ├── prefill            until the first token, which is also an event of `turn`
        ├── decode             until the last (in place of both, of an operation on the memory: `operation`)
        └── commit             until it is durable

A span is passed on as a W3C `traceparent`: into an api by its caller's header, to a worker with the stored request. So
one trace goes through every process that has a hand in a turn, a second worker's after a takeover too.

Invariants: what a span carries are ids and figures, never a prompt, a key or an address. Without the variables nothing
of OpenTelemetry is imported, and a span costs a call that does nothing. It knows nothing of HTTP or of turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from server.errors import StartupError

Kind = Literal["server", "consumer", "internal"]
Attribute = str | int | float | bool

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTER = "OTEL_TRACES_EXPORTER"


class Span(Protocol):
    """Something that takes time. Times are Unix, s; None: now.

    within: the `traceparent` for what happens within it, None where it is not traced.
    """

    @property
    def within(self) -> str | None: ...

    def note(self, event: str, at: float | None = None) -> None:
        """Something that happened at a moment of it."""

    def end(
        self, at: float | None = None, *, name: str | None = None, error: str | None = None, **attributes: Attribute
    ) -> None:
        """It is over; only the first call counts. name: a better one than it began with. error: a code."""


class Tracing(Protocol):
    """Where spans come from."""

    @property
    def on(self) -> bool: ...

    def begin(
        self, name: str, kind: Kind, within: str | None = None, at: float | None = None, **attributes: Attribute
    ) -> Span:
        """A span. within: the `traceparent` it belongs to; None, or one that is malformed, begins a trace."""

    def close(self) -> None:
        """Send what has not been sent, and wait for that a few seconds at most."""


class NoSpan:
    """Of what is not traced."""

    @property
    def within(self) -> str | None:
        """Nothing is."""
        return None

    def note(self, event: str, at: float | None = None) -> None:
        """Nothing."""

    def end(
        self, at: float | None = None, *, name: str | None = None, error: str | None = None, **attributes: Attribute
    ) -> None:
        """Nothing."""


class NoTracing:
    """Traces nothing."""

    @property
    def on(self) -> bool:
        """It is not."""
        return False

    def begin(
        self, name: str, kind: Kind, within: str | None = None, at: float | None = None, **attributes: Attribute
    ) -> Span:
        """Nothing."""
        del name, kind, within, at, attributes
        return NO_SPAN

    def close(self) -> None:
        """Nothing."""


NO_SPAN = NoSpan()
OFF = NoTracing()


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether traces are to be sent. Raises StartupError for a way of sending them that there is not."""
    exporter = environment.get(EXPORTER, "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if not exporter and not any(environment.get(name) for name in ENDPOINTS):
        return False
    if exporter not in ("", "otlp"):
        raise StartupError(f"{EXPORTER}={exporter}: only otlp and none are there")
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name, "").strip())), "http/protobuf")
    if protocol != "http/protobuf":
        raise StartupError(f"the OTLP protocol {protocol} is not there; http/protobuf is, on a collector's port 4318")
    return True


def open_tracing(process: str, environment: Mapping[str, str]) -> Tracing:
    """What the environment asks for. process: "api" or "worker". Raises StartupError."""
    if not wanted(environment):
        return OFF
    try:
        from server.otel import Exported  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise StartupError(
            f"traces are asked for ({EXPORTER} or {ENDPOINTS[0]}), and OpenTelemetry is not installed "
            f"({error.name}): pip install 'perennial[otel]'"
        ) from None
    return Exported(process, environment)
