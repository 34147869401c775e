"""Structured logs: one line per fact, as JSON or for a terminal, on stderr.

Invariants: what a client wrote never gets here. Tracebacks carry no local variables, since those hold prompts; a key or
an address of the store is never a field. Lines of libraries (uvicorn, asyncio) go through the same renderer.

It does not know what is worth a line: the callers name an event and its ids (request, session, generation).
"""

import logging
import sys
from typing import TYPE_CHECKING

import structlog
from structlog.typing import Processor

if TYPE_CHECKING:
    from server.settings import Settings

Logger = structlog.stdlib.BoundLogger


def get_logger() -> Logger:
    """A logger that follows whatever `configure_logging` has set, also if that comes later."""
    logger: Logger = structlog.get_logger()
    return logger


def configure_logging(settings: "Settings", process: str) -> None:
    """Send this process's logs to stderr; `process` ("api", "worker", "serve") is a field of each line."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]

    def name_process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    render: list[Processor]
    if as_json:
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        render = [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer()]
    else:
        render = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Their chatter at "info" repeats what the request line says; their warnings are worth having.
    for noisy in ("uvicorn", "uvicorn.error", "asyncio", "httpx", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=Logger,
        cache_logger_on_first_use=True,
    )
