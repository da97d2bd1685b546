"""Where token rewards come from: a file a source, each a pure function of arrays; `SOURCES` knows all."""

from engine.sources.registry import SOURCES, SourceInfo, default_sources

__all__ = ["SOURCES", "SourceInfo", "default_sources"]
