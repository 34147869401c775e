"""A part of the worker that needs the engine, which is made after it: the engine tells its outputs to the worker."""

from __future__ import annotations

from server.engine.loop import Engine


class Connected:
    """Has the engine once `connect` was called, and not before."""

    _connected: Engine | None = None

    def connect(self, engine: Engine) -> None:
        """The engine that runs the turns and has the slots."""
        self._connected = engine

    @property
    def _engine(self) -> Engine:
        assert self._connected is not None
        return self._connected
