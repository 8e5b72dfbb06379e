"""Kinds of arguments that several commands take, for the `type` of argparse."""

import argparse
import os
from pathlib import Path


def output_file(text: str) -> Path:
    """A file that can be written in the end: who mistypes its folder is told before the run, not after it.

    Raises:
        argparse.ArgumentTypeError: it can not; the value and what is expected.
    """
    path = Path(text)
    folder = path.absolute().parent
    writable = path.is_file() and os.access(path, os.W_OK)
    creatable = not path.exists() and folder.is_dir() and os.access(folder, os.W_OK)
    if not writable and not creatable:
        raise argparse.ArgumentTypeError(f"{text}: expected a file in a folder that exists and can be written to")
    return path
