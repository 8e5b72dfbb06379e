"""Stands in for triton where no kernel is ever launched: every name can be imported, launching raises."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "3.7.1"


class Anything:
    """Takes what modules do with triton's names while they are imported: call, index, annotate, inherit."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):  # noqa: D102
        return Anything()

    def __getattr__(self, name):
        return _public(name, Anything())

    def __getitem__(self, key):
        return self

    def __or__(self, other):
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases):
        return (object,)

    def __bool__(self):
        return False

    def __iter__(self):
        return iter(())


class Config(Anything):
    """A choice for autotune."""


class JITFunction:
    """What `@triton.jit` makes of a function."""

    def __init__(self, fn):
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", "kernel")
        self.__module__ = getattr(fn, "__module__", None)
        self.__doc__ = fn.__doc__

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, **kwargs):  # noqa: D102
        raise RuntimeError(f"kernel {self.__name__}: triton is a stand-in without a GPU and launches nothing")

    def __getattr__(self, name):
        return _public(name, Anything())


class constexpr:
    """A value known when a kernel is compiled."""

    def __init__(self, value=None):
        self.value = value

    def __class_getitem__(cls, key):
        return cls


def jit(fn=None, **options):
    """Mark a function as a kernel."""
    return jit if fn is None else JITFunction(fn)


def autotune(*args, **kwargs):
    """Leave the kernel as it is."""
    return lambda fn: fn


heuristics = autotune


def cdiv(x, y):
    """Divide and round up."""
    return -(-x // y)


def next_power_of_2(n):
    """Round up to a power of two."""
    return 1 << max(0, (n - 1)).bit_length()


def __getattr__(name):
    return _public(name, Anything())


def _public(name, value):
    # A module or object that has every dunder name is taken for all kinds of things.
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(name)
    return value


_REAL = {"constexpr": constexpr, "jit": jit, "JITFunction": JITFunction, "constexpr_function": lambda fn: fn}


class _Module(ModuleType):
    def __getattr__(self, name):
        if name == "active":  # triton.runtime.driver.active: what the real one says without a GPU; torch expects it
            raise RuntimeError("0 active drivers ([]). There should only be one.")
        return _REAL[name] if name in _REAL else _public(name, Anything())


class _Modules(MetaPathFinder, Loader):
    """Makes every module below triton."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self, is_package=True) if fullname.startswith(f"{__name__}.") else None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, _Modules())
for _name in ("language", "runtime", "runtime.driver"):  # used as attributes, without an import of their own
    import_module(f"{__name__}.{_name}")
