"""The engine of the planning tests."""

from ..planning.conftest import model

__all__ = ["model"]
