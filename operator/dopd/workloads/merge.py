"""Merging a user's pod template over the operator's, by the rules of Kubernetes' strategic merge.

Maps merge key by key. Lists merge by the fields that tell their items apart in the API (`pod_fields`), and a list
without such fields is replaced whole. Of a union (a value or its source, the handler of a probe, the source of a
volume) the user's member takes the place of the operator's. null removes what the operator set.
"""

import posixpath
from collections.abc import Sequence
from typing import Any

from dopd.workloads.pod_fields import KEY_DEFAULTS, LIST_KEYS, UNIONS
from dopd.workloads.refusal import Refusal

MOST_LEVELS = 40
"""Levels of nesting of a template; a pod has at most 14."""

_Key = tuple[str | int, ...]


def overlay(base: Any, over: Any, where: str, path: str = "") -> Any:
    """`base` with `over` laid upon it; neither is changed.

    Args:
        base: what the operator sets.
        over: what the user says.
        where: the user's field, for messages, such as spec.prefill.template.
        path: of this part in a pod template, without positions in lists; empty for the template itself.

    Raises:
        Refusal: a part is of another type than in a pod, an item of a list has no key or is there twice, or the
            nesting is deeper than any pod's.
    """
    if path.count(".") > MOST_LEVELS:
        raise Refusal(where, f"is nested more than {MOST_LEVELS} levels deep; expected part of a pod template")
    if path in LIST_KEYS or isinstance(base, list):
        _expect(over, list, where, "a list")
    if path in LIST_KEYS:
        return overlay_list(base or [], over, where, path)
    if isinstance(base, dict):
        _expect(over, dict, where, "an object")
    if isinstance(over, dict):
        return _overlay_map(base if isinstance(base, dict) else {}, over, where, path)
    if isinstance(over, list):
        return [overlay(None, item, f"{where}[{i}]", f"{path}.[]") for i, item in enumerate(over)]
    return over


def overlay_list(base: Sequence[Any], over: Sequence[Any], where: str, path: str) -> list[Any]:
    """A list of keyed items with `over` laid upon it: the operator's items in their places, new ones behind them.

    Raises:
        Refusal: see `overlay`.
    """
    merged: dict[_Key, Any] = {_key(item, where, path): item for item in base}
    seen: set[_Key] = set()
    for index, item in enumerate(over):
        key = _key(item, f"{where}[{index}]", path)
        named = f"{where}[{', '.join(map(str, key))}]"
        if key in seen:
            raise Refusal(named, "is there twice; remove one")
        seen.add(key)
        merged[key] = _overlay_map(merged.get(key, {}), item, named, path)
    return list(merged.values())


def _overlay_map(base: dict[str, Any], over: dict[str, Any], where: str, path: str) -> dict[str, Any]:
    union = UNIONS.get(path, frozenset())
    chosen = {name for name in union if over.get(name) is not None}
    merged = {name: value for name, value in base.items() if not (chosen and name in union and name not in chosen)}
    for name, value in over.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = overlay(merged.get(name), value, f"{where}.{name}", f"{path}.{name}" if path else name)
    return merged


def _expect(value: Any, kind: type, where: str, words: str) -> Any:
    if not isinstance(value, kind):
        raise Refusal(where, f"is {_told(value)}; expected {words}, as in a pod")
    return value


def _told(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    return names.get(type(value), "a number")


def _key(item: Any, where: str, path: str) -> _Key:
    _expect(item, dict, where, "an object")
    return tuple(_key_part(item, name, where) for name in LIST_KEYS[path])


def _key_part(item: dict[str, Any], name: str, where: str) -> str | int:
    value = item.get(name, KEY_DEFAULTS.get(name))
    if value is None or not isinstance(value, str | int):
        raise Refusal(where, f"has no {name}, by which items of this list are told apart; add it")
    # Kubernetes tells /dev/shm and /dev/shm/ apart; a container has one of them.
    return posixpath.normpath(value) if name == "mountPath" and isinstance(value, str) and value else value
