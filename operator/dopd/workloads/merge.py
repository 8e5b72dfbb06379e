"""Merging a user's pod template over the operator's.

The rule is that of a strategic merge patch as far as pods need it: maps merge key by key, lists whose items have names
(containers, volumes, env, ...) merge by name, any other list is appended to, and null removes what the operator set.
"""

from typing import Any

_MERGE_KEYS = ("name", "mountPath", "containerPort")


def overlay(base: Any, over: Any) -> Any:
    """`base` with `over` laid upon it; neither is changed."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for key, value in over.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = overlay(base[key], value) if key in base else value
        return merged
    if isinstance(base, list) and isinstance(over, list):
        return _overlay_list(base, over)
    return over


def _overlay_list(base: list[Any], over: list[Any]) -> list[Any]:
    items = [*base, *over]
    if not all(isinstance(item, dict) for item in items):
        return items
    key = next((key for key in _MERGE_KEYS if all(key in item for item in items)), None)
    if key is None:
        return items
    merged = {item[key]: item for item in base}
    for item in over:
        merged[item[key]] = overlay(merged[item[key]], item) if item[key] in merged else item
    return list(merged.values())
