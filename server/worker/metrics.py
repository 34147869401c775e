"""What a worker measures of itself, in Prometheus' terms. It knows nothing of how they are served.

Labels have few values by construction, each named in its instrument's text; none is an id.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.engine.request import Stats

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SLOT_KINDS = ("decoding", "reading", "parked", "held", "warm", "free")


class WorkerMetrics:
    """The instruments of one worker. Times in seconds, sizes in bytes."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()

        # Where states come from
        self.restored = Counter(
            "perennial_turns_restored", "A turn's state came from: new, slot, ram, redis.", ["tier"], registry=r
        )
        self.missed = Counter(
            "perennial_warm_misses",
            "Why a state had to come from redis: evicted, cut, dropped, rewound, moved, forked, cold.",
            ["reason"],
            registry=r,
        )
        self.replayed_tokens = Counter(
            "perennial_replayed_tokens",
            "Tokens read again: of the log (log), of a stream that was taken over (stream).",
            ["source"],
            registry=r,
        )
        self.load_seconds = Histogram(
            "perennial_state_load_seconds",
            "Until a turn's state is at hand, from: slot, ram, redis. Waiting for a slot is not in it.",
            ["tier"],
            buckets=SECONDS,
            registry=r,
        )

        # Where they go
        self.save_seconds = Histogram(
            "perennial_state_save_seconds", "A state written, to: redis.", ["tier"], buckets=SECONDS, registry=r
        )
        self.snapshots = Counter(
            "perennial_snapshots",
            "Snapshots: written, failed, ended (its session or turn was no more), left_out (too many waited).",
            ["outcome"],
            registry=r,
        )
        self.ram_bytes = Gauge("perennial_ram_bytes", "Bytes of the states that lost their slot.", registry=r)
        self.ram_states = Gauge("perennial_ram_states", "States that lost their slot and are in memory.", registry=r)
        self.state_bytes = Gauge("perennial_state_bytes", "Bytes of one session's state.", registry=r)

        # Turns
        self.running = Gauge("perennial_num_requests_running", "Turns in hand that have a slot.", registry=r)
        self.waiting = Gauge("perennial_num_requests_waiting", "Turns in hand that wait for a slot.", registry=r)
        self.commit_seconds = Histogram("perennial_commit_seconds", "A turn's commit.", buckets=SECONDS, registry=r)
        self.ended = Counter("perennial_turns_ended", "Turns that ended, by finish reason.", ["reason"], registry=r)
        self.takeovers = Counter("perennial_takeovers", "Turns taken over from another worker.", registry=r)
        self.fenced = Counter("perennial_fenced", "Turns lost to a newer owner.", registry=r)
        self.swept = Counter(
            "perennial_swept", "Accepted turns found forgotten: enqueued, dismissed (ended).", ["outcome"], registry=r
        )
        self.store_errors = Counter("perennial_store_errors", "Calls that the store did not answer.", registry=r)

        # Operations on the memory
        self.operations = Counter(
            "perennial_memory_operations",
            "Operations on memories: their kind, who asked (client, policy), whether they were kept or only tried.",
            ["kind", "by", "outcome"],
            registry=r,
        )
        self.operation_seconds = Histogram(
            "perennial_memory_operation_seconds", "An operation on a memory.", ["kind"], buckets=SECONDS, registry=r
        )
        self.policies = Counter(
            "perennial_memory_policies", "Cleanings asked for by policy: idle, writes, rank.", ["policy"], registry=r
        )
        self.operations_settled = Counter(
            "perennial_memory_operations_settled",
            "Operations done again on the way to a state, their snapshot lost.",
            registry=r,
        )

        # The engine
        self.slots = Gauge(
            "perennial_slots", "Slots: decoding, reading, parked, held, warm, free.", ["kind"], registry=r
        )
        self.sampled_tokens = Counter("perennial_engine_sampled_tokens", "Tokens sampled.", registry=r)
        self.read_tokens = Counter(
            "perennial_engine_read_tokens", "Tokens that passed through the model, replayed ones too.", registry=r
        )
        self.tick_seconds = Gauge("perennial_engine_tick_seconds", "Length of the last tick.", registry=r)
        self._seen = Stats()
        for outcome in ("failed", "left_out"):  # alerted to: a series that begins at one shows no increase
            self.snapshots.labels(outcome)

    def look(self, stats: Stats, in_hand: int) -> None:
        """Note what the engine says of itself, whose totals only grow. in_hand: turns this worker has claimed.
        Called by one thread, the heartbeat's."""
        for kind in SLOT_KINDS:
            self.slots.labels(kind).set(getattr(stats, kind))
        self.waiting.set(stats.waiting)
        self.running.set(max(0, in_hand - stats.waiting))
        self.sampled_tokens.inc(stats.sampled_tokens - self._seen.sampled_tokens)
        self.read_tokens.inc(stats.read_tokens - self._seen.read_tokens)
        self.tick_seconds.set(stats.tick_s)
        self._seen = stats
