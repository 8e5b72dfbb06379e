"""The file of the plugin's settings, changed as a ConfigMap's volume is: whole, and looked at once a second."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

TAKEN_OVER_SECONDS = 1.5


def replace_whole(file: Path, text: str) -> None:
    """Put a text in place of a file, so that nobody reads a part of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


async def put(file: Path, **fields: Any) -> None:
    """Change the settings, and wait until the plugin has looked."""
    replace_whole(file, json.dumps({"version": 1, **fields}))
    await asyncio.sleep(TAKEN_OVER_SECONDS)
