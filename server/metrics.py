"""What an api process measures of itself, in Prometheus' terms.

Each process has its own registry and serves only what it saw, so replicas add up; the gauges that come from the store
(`queue_depth`, `live_workers`, `store_up`) are the same at every replica: take their maximum, not their sum.
Names known from vLLM are vLLM's, under our prefix. A request that asks for several choices is several here.
Labels have few values by construction: routes are templates ("/v1/sessions/{session_id}"), never paths or ids.

It knows nothing of HTTP, of the store or of a worker's insides.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.errors import StoreFull

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
TOKEN_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class ApiMetrics:
    """The instruments of one api process. Times in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "perennial_http_requests", "Answered HTTP requests.", ["method", "route", "status"], registry=r
        )
        self.request_seconds = Histogram(
            "perennial_http_request_seconds",
            "From a request's arrival to the last byte.",
            ["route"],
            buckets=SECONDS,
            registry=r,
        )
        self.streams = Gauge("perennial_open_streams", "Event streams open now.", registry=r)
        self.accepted = Counter("perennial_generations_accepted", "Turns put in the queue.", registry=r)
        self.succeeded = Counter(
            "perennial_request_success",
            "Turns that ended well: eos, stop, length, cancelled, interrupted, operation.",
            ["finish_reason"],
            registry=r,
        )
        self.failed = Counter(
            "perennial_request_failure",
            "Turns that ended with an error after they were accepted, by its code.",
            ["code"],
            registry=r,
        )
        self.refused = Counter("perennial_refused", "Requests refused, by error code.", ["code"], registry=r)
        self.busy_seconds = Histogram(
            "perennial_busy_session_wait_seconds",
            "How long requests waited (wait_s) for a session that ran another turn, by what became of them.",
            ["outcome"],
            buckets=SECONDS,
            registry=r,
        )
        self.forks = Counter("perennial_implicit_forks", "Turns (from_turn) that made a fork to run in.", registry=r)
        self.repeats = Counter(
            "perennial_repeated_requests", "Requests answered by the generation of an earlier one.", registry=r
        )
        self.resumed = Counter("perennial_stream_resumes", "Event streams taken up after an event.", registry=r)
        self.disconnects = Counter("perennial_client_disconnects", "Clients that left before the end.", registry=r)
        self.restored = Counter("perennial_restored", "Where the state of a turn came from.", ["source"], registry=r)
        self.prompt_tokens = Counter("perennial_prompt_tokens", "New tokens read.", registry=r)
        self.generation_tokens = Counter("perennial_generation_tokens", "Tokens generated.", registry=r)
        self.cached_tokens = Counter(
            "perennial_cached_tokens", "Tokens taken from a state instead of being read again.", registry=r
        )
        self.first_token_seconds = Histogram(
            "perennial_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=SECONDS,
            registry=r,
        )
        self.inter_token_seconds = Histogram(
            "perennial_inter_token_latency_seconds",
            "Between two tokens of one answer.",
            buckets=TOKEN_SECONDS,
            registry=r,
        )
        self.e2e_seconds = Histogram(
            "perennial_e2e_request_latency_seconds",
            "From a request's arrival to the end of its turn, which is durable then.",
            buckets=SECONDS,
            registry=r,
        )
        self.queue_seconds = Histogram(
            "perennial_request_queue_time_seconds",
            "From a turn's acceptance until it had a slot, of turns that ended well.",
            buckets=SECONDS,
            registry=r,
        )
        self.queue_depth = Gauge("perennial_queue_depth", "Turns that wait for a worker (whole system).", registry=r)
        self.live_workers = Gauge("perennial_live_workers", "Workers with a fresh heartbeat.", registry=r)
        self.store_up = Gauge("perennial_store_up", "1 while the store answers this process.", registry=r)
        # A series that begins at one shows no increase; what operators are alerted to begins at zero.
        for counter in (self.refused, self.failed):
            counter.labels(StoreFull.code)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
