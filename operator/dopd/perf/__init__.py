"""How fast one engine is. Pure: tables and arithmetic, no I/O and no clock."""

from dopd.perf.engine import EngineModel
from dopd.perf.online import Correction, DecodeWindow, PrefillWindow, Ratios
from dopd.perf.prefill_times import service_times

__all__ = ["Correction", "DecodeWindow", "EngineModel", "PrefillWindow", "Ratios", "service_times"]
