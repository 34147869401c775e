"""What a worker measures of itself, in Prometheus' terms. It knows nothing of how they are served."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class WorkerMetrics:
    """The instruments of one worker. Times in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.restored = Counter("perennial_turns_restored", "Where a turn's state came from.", ["tier"], registry=r)
        self.replayed_tokens = Counter("perennial_replayed_tokens", "Tokens read again from the log.", registry=r)
        self.load_seconds = Histogram(
            "perennial_state_load_seconds", "A state read from the store.", buckets=SECONDS, registry=r
        )
        self.save_seconds = Histogram(
            "perennial_state_save_seconds", "A snapshot written to the store.", buckets=SECONDS, registry=r
        )
        self.commit_seconds = Histogram("perennial_commit_seconds", "A turn's commit.", buckets=SECONDS, registry=r)
        self.ended = Counter("perennial_turns_ended", "Turns that ended, by how.", ["reason"], registry=r)
        self.takeovers = Counter("perennial_takeovers", "Turns taken over from another worker.", registry=r)
        self.fenced = Counter("perennial_fenced", "Turns lost to a newer owner.", registry=r)
        self.store_errors = Counter("perennial_store_errors", "Calls that the store did not answer.", registry=r)
        self.state_bytes = Gauge("perennial_state_bytes", "Bytes of one session's state.", registry=r)
        self.slots = Gauge("perennial_slots", "Slots, by what they are doing.", ["kind"], registry=r)
        self.sampled_tokens = Gauge("perennial_engine_sampled_tokens", "Tokens sampled since the start.", registry=r)
        self.read_tokens = Gauge("perennial_engine_read_tokens", "Tokens read since the start.", registry=r)
        self.tick_seconds = Gauge("perennial_engine_tick_seconds", "Length of the last tick.", registry=r)
