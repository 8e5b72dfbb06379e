"""A health check of Argo CD run by Lua 5.1, with the libraries that Argo CD gives it and no others."""

from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime

ARGOCD = Path(__file__).parents[3] / "config" / "argocd"
_WITHHELD = ("string", "math", "io", "os", "debug", "coroutine")


def health(resource: dict[str, Any], script: str = "health.lua") -> tuple[str, str]:
    """Status and message that a script gives to a resource."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    for name in _WITHHELD:
        lua.globals()[name] = None
    lua.execute('local nothing = getmetatable("") if nothing then nothing.__index = nil end')
    lua.globals()["obj"] = lua.table_from(_without_null(resource), recursive=True)
    answer = lua.execute((ARGOCD / script).read_text())
    return answer["status"], answer["message"]


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(child) for key, child in value.items() if child is not None}
    return [_without_null(child) for child in value] if isinstance(value, list) else value
