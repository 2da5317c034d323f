"""What can go wrong, as sentences for whoever must act."""
from __future__ import annotations

from typing import Any, Optional


class AgentfieldError(Exception):
    """The base of every error of this package."""


class FunctionError(AgentfieldError):
    """A failure with an HTTP status of its own, raised by a function. Any other exception is answered with 500.

    4xx says that the caller must change something, 5xx that trying again may help. ``details`` explains it to a program.
    """

    def __init__(self, message: str, *, status: int = 500, details: Any = None) -> None:
        super().__init__(message)
        self.status = status if 400 <= status <= 599 else 500
        self.details = details


class InvalidInput(FunctionError):
    """The input does not fit the function's annotations; answered with 422. ``path`` says where, as in ``ticket.id``."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem, status=422)
        self.path = path


class PlaneError(AgentfieldError):
    """The control plane answered with something else than success."""

    def __init__(self, status: int, message: str, code: str = "", state: str = "", retry_after: Optional[float] = None) -> None:
        super().__init__(f"the control plane answered {status}: {message}")
        self.status, self.message, self.code = status, message, code
        self.state = state  # of the execution that a conflict is about; may be empty
        self.retry_after = retry_after  # seconds; None when it was not given


class CallError(AgentfieldError):
    """A call of another function did not succeed.

    ``status`` is failed, timeout or cancelled; when the call was refused before there was an execution, ``status`` and ``execution_id``
    are empty and ``http_status`` and ``code`` are the control plane's.
    """

    def __init__(self, target: str, *, execution_id: str = "", status: str = "", error: str = "", details: Any = None,
                 http_status: int = 0, code: str = "") -> None:
        self.target, self.execution_id, self.status, self.error = target, execution_id, status, error
        self.details, self.http_status, self.code = details, http_status, code
        who = f"{target} ({execution_id})" if execution_id else target
        super().__init__(f"{who} {'ended ' + status if status else 'was refused'}" + (f": {error}" if error else ""))


class PauseError(AgentfieldError):
    """People cannot be asked: something in the request is wrong, or the execution is over."""

    def __init__(self, message: str, code: str = "", http_status: int = 0) -> None:
        super().__init__("people cannot be asked: " + message)
        self.code, self.http_status = code, http_status


class MemoryUnavailable(AgentfieldError):
    """This server does not have that part of the memory."""


class AIError(AgentfieldError):
    """The model could not be asked, or what it said does not fit the schema."""
