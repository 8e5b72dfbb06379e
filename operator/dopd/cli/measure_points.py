"""The points that `dopd profile measure` has finished, kept in a file: a run that ends early is gone on with."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Points:
    """What was measured so far.

    Attributes:
        path: of the file; None keeps nothing.
        of: of which engines; points of others are refused.
        prefill: seconds by tokens.
        transfer: seconds of the KV transfer by tokens, where the engine tells.
        decode: seconds of a step by context tokens and batch.
    """

    path: Path | None
    of: dict[str, Any]
    prefill: dict[int, float] = field(default_factory=dict)
    transfer: dict[int, float] = field(default_factory=dict)
    decode: dict[tuple[int, int], float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, of: dict[str, Any]) -> "Points":
        """What a file holds; nothing where there is none.

        Raises:
            ValueError: it holds something else, or points of other engines.
        """
        points = cls(path, of)
        if path is None or not path.exists():
            return points
        fix = "remove it to begin anew, or name another with --points"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            known = held["of"]
            points.prefill = {int(tokens): float(seconds) for tokens, seconds in held["prefill"]}
            points.transfer = {int(tokens): float(seconds) for tokens, seconds in held["transfer"]}
            points.decode = {(int(tokens), int(batch)): float(seconds) for tokens, batch, seconds in held["decode"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no file of measured points ({error}); {fix}") from None
        other = [
            f"{name} {known.get(name)!r} is now {value!r}" for name, value in of.items() if known.get(name) != value
        ]
        if other:
            raise ValueError(f"{path}: points of other engines ({', '.join(other)}); {fix}")
        return points

    def __len__(self) -> int:
        return len(self.prefill) + len(self.decode)

    def keep(self) -> None:
        """Write the file anew, so that it is whole at any time."""
        if self.path is None:
            return
        held = {
            "of": self.of,
            "prefill": sorted(self.prefill.items()),
            "transfer": sorted(self.transfer.items()),
            "decode": sorted((*place, seconds) for place, seconds in self.decode.items()),
        }
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(json.dumps(held), encoding="utf-8")
        os.replace(new, self.path)

    def done(self) -> None:
        """The profile is written: the file has served its purpose."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
