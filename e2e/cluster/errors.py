"""The one exception that the harness raises on purpose: its text names the cause and the cure."""


class ClusterError(Exception):
    """The harness cannot go on; the message says why and what to do about it."""
