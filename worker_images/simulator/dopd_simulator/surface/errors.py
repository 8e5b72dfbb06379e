"""Errors in the shapes that SGLang uses: one for its own endpoints, one for OpenAI's and for what FastAPI refuses."""

from typing import Any

from aiohttp import web
from pydantic import ValidationError


def native_error(status: int, message: str) -> web.Response:
    """`{"error": {"message"}}` (http_server._create_error_response)."""
    return web.json_response({"error": {"message": message}}, status=status)


def error_body(status: int, message: str, kind: str) -> dict[str, Any]:
    """The fields of an OpenAI-style error (openai/protocol.ErrorResponse)."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


def openai_error(status: int, message: str, kind: str) -> web.Response:
    """An OpenAI-style error as a whole answer."""
    return web.json_response(error_body(status, message, kind), status=status)


def validation_message(error: ValidationError) -> str:
    """Which fields of a body are wrong, and how."""
    problems = (
        f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}" for problem in error.errors()
    )
    return f"{error.error_count()} validation errors: " + "; ".join(problems)
