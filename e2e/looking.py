"""A thread that looks at something again and again, from creation until `stop`."""

import threading
import time
from abc import ABC, abstractmethod


class Looking(ABC):
    """Begins at once: set what `run` needs before."""

    def __init__(self) -> None:
        self._zero = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self.run, name="watch", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._zero

    def stop(self) -> None:
        """End it, once the look that is under way is over."""
        self._over.set()
        self._thread.join()

    @abstractmethod
    def run(self) -> None:
        """Look until `_over` is set; in the thread."""
