"""Keys that stand in Secrets."""

from typing import Annotated

from pydantic import Field

from dopd.api.base import Model, Name


class SecretKey(Model):
    """A key of a Secret of the same namespace."""

    name: Name
    """Name of the Secret."""
    key: Annotated[
        str,
        Field(
            pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$",
            max_length=253,
            json_schema_extra={
                "expected": "a key of a Secret (letters, digits, '-', '_' and '.', not '..' at its beginning), such as"
                " key"
            },
        ),
    ] = "key"
    """Key in it."""
