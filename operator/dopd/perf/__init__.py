"""How fast one engine is. Pure: tables and arithmetic, no I/O and no clock."""

from dopd.perf.engine import EngineModel

__all__ = ["EngineModel"]
