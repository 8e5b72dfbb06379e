"""One value for each role."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from dopd.api.names import Role

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class PerRole(Generic[T]):
    """A value of prefill and one of decode; iterates in the order of `Role`."""

    prefill: T
    decode: T

    @classmethod
    def of(cls, make: Callable[[Role], T]) -> "PerRole[T]":
        """The value that `make` gives for each role."""
        return cls(make(Role.PREFILL), make(Role.DECODE))

    def __getitem__(self, role: Role) -> T:
        return self.prefill if role is Role.PREFILL else self.decode

    def __iter__(self) -> Iterator[T]:
        return iter((self.prefill, self.decode))

    def map(self, change: Callable[[T], U]) -> "PerRole[U]":
        """Both values changed alike."""
        return PerRole(change(self.prefill), change(self.decode))
