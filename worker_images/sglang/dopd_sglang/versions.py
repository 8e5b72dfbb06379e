"""Releases of SGLang that this package was tried with."""

KNOWN = ("0.5.23",)
