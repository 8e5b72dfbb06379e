"""The commands: `dopd` and, as a plugin of kubectl, `kubectl dopd`."""

from dopd.cli.main import main

__all__ = ["main"]
