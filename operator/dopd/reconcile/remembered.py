"""What was made of a JSON text is kept for the texts that came last. Pure.

A resource's spec, its profile and its status are read anew in each pass, and say the same in nearly all of them. To
check them against their schema takes a hundred times as long as to see that. They are known by what they say, not by
where they stand or by a version: so nothing has to be told when they change.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """A function of decoded JSON. Those who ask share what it made, so nobody changes that.

    Args:
        make: the function. What it raises is passed on, and not kept.
        most: results that are kept.
    """

    def __init__(self, make: Callable[[Any], T], most: int) -> None:
        self._make, self._most = make, most
        self._made: OrderedDict[bytes, T] = OrderedDict()

    def __call__(self, value: Any) -> T:
        """What the function makes of a value."""
        try:
            text = json.dumps(value).encode()
        except RecursionError:  # nested deeper than anything that has a schema
            return self._make(value)
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest in self._made:
            self._made.move_to_end(digest)
        else:
            self._made[digest] = self._make(value)
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        return self._made[digest]
