"""Values of options that the replay's commands share."""

import argparse
import math


def pair(text: str) -> tuple[int, int]:
    """Prefill and decode workers, as P,D.

    Raises:
        argparse.ArgumentTypeError: it is not that; argparse puts the option before it.
    """
    prefill, _, decode = text.partition(",")
    if not (prefill.isdigit() and decode.isdigit() and int(prefill) and int(decode)):
        raise argparse.ArgumentTypeError(f"{text}: expected two whole numbers above 0, like 1,1")
    return int(prefill), int(decode)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers, comma separated.

    Raises:
        argparse.ArgumentTypeError: it is not that.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected numbers, comma separated") from None


def above_zero(args: argparse.Namespace, *names: str) -> None:
    """Look at numbers that must be above zero.

    Raises:
        ValueError: one is not; the option, its value and what is expected.
    """
    for name in names:
        if not 0 < getattr(args, name) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name):g}: expected a number above 0")
