"""Where token rewards come from: a file a source, each a pure function of arrays; `SOURCES` knows all."""

from engine.sources.registry import SOURCES, Evidence, Source, SourceName, default_sources

SOURCES.fill(
    "engine.sources", order=("implicit", "rm_prefix", "rm_increment", "spans", "external", "surprisal")
)

__all__ = ["SOURCES", "Evidence", "Source", "SourceName", "default_sources"]
