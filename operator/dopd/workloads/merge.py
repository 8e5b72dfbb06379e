"""Merging a user's pod template over the operator's.

The rule is that of a strategic merge patch as far as pods need it: maps merge key by key, lists whose items have names
(containers, volumes, env, ...) merge by name, any other list is appended to, and null removes what the operator set.
A volume has one source: one of another kind takes the place of the operator's.
"""

from typing import Any

_MERGE_KEYS = ("name", "mountPath", "containerPort")
_VOLUMES = "volumes"


def overlay(base: Any, over: Any) -> Any:
    """`base` with `over` laid upon it; neither is changed."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for key, value in over.items():
            if value is None:
                merged.pop(key, None)
            elif key == _VOLUMES and isinstance(value, list):
                merged[key] = overlay([_of_one_source(volume, value) for volume in base.get(key, [])], value)
            else:
                merged[key] = overlay(base[key], value) if key in base else value
        return merged
    if isinstance(base, list) and isinstance(over, list):
        return _overlay_list(base, over)
    return over


def _of_one_source(volume: Any, over: list[Any]) -> Any:
    """A volume of the operator, without its source where the user gives the volume of that name another one."""
    named = {item["name"]: item for item in over if isinstance(item, dict) and "name" in item}
    mine = named.get(volume["name"], {})
    return {key: value for key, value in volume.items() if key in mine} if len(mine) > 1 else volume


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
