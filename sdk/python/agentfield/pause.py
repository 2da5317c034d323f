"""Asking people, and waiting for their decision however long that takes: through restarts of the control plane and lost callbacks."""
from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Optional
from urllib.parse import quote

from .client import SHORT, Plane, execution_path, passing
from .errors import PauseError, PlaneError
from .execution import Run
from .schema import encode

log = logging.getLogger("agentfield")
_HOLD = 30  # seconds that the control plane holds a question
_PAUSE = 0.5  # seconds at least between two questions when it does not hold them
_STALE_PATIENCE = 60.0  # how long a run whose attempt is behind waits for the newer one to join it
_OVER = ("succeeded", "failed", "timeout", "cancelled")


@dataclass(frozen=True)
class ApprovalResult:
    """What came of a request: approved, rejected, request_changes, or expired when nobody decided in time."""

    decision: str
    feedback: str = ""  # the reviewer's words
    execution_id: str = ""
    approval_request_id: str = ""
    decided_by: str = ""
    response: Any = None  # the answers to the form, else the payload as the reviewer changed it
    edited_payload: Any = None  # the payload as the reviewer changed it; None when it was approved as proposed
    raw_response: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def approved(self) -> bool:
        return self.decision == "approved"

    @property
    def rejected(self) -> bool:
        return self.decision == "rejected"

    @property
    def changes_requested(self) -> bool:
        return self.decision == "request_changes"

    @property
    def expired(self) -> bool:
        return self.decision == "expired"


def _gone(problem: BaseException) -> bool:
    """Whether the control plane is sure that it does not have this request."""
    return isinstance(problem, PlaneError) and problem.status == 404 and bool(problem.code)


class Pause:
    """One request on its way to a decision.

    If the execution is repeated after a crash, the same request joins the one that is open, or gets the decision that stands. A request
    that proposes something else is another one, so that nobody's approval is taken for what they have not seen.
    """

    def __init__(self, plane: Plane, run: Run, callback_url: str, request_id: Optional[str], asked: Dict[str, Any]) -> None:
        self.plane, self.run = plane, run
        asked = {key: value for key, value in asked.items() if value is not None}
        self.id = request_id or run.question(encode(asked))
        # The address of the agent changes with a restart and is no part of the question.
        self.body = encode({**asked, "approval_request_id": self.id, "callback_url": callback_url})
        self.news = run.pauses.setdefault(self.id, asyncio.Event())

    async def decision(self) -> ApprovalResult:
        await self._ask()
        return await self._await()

    async def _ask(self) -> None:
        """Put the request before people, unless it is there already: one that is sent again after its decision would be a new round."""
        began, failures, perhaps_there = time.monotonic(), 0, self.run.execution.attempt > 1
        while True:
            absent = False
            try:
                if perhaps_there:
                    if await self._there():
                        return
                    absent = True
                perhaps_there = True
                await self.plane.send("POST", execution_path(self.run.execution.id, "/request-approval"), self.body, self.run.headers())
                return
            except (PlaneError, OSError, asyncio.TimeoutError) as problem:
                if isinstance(problem, PlaneError) and self._final(problem, absent, time.monotonic() - began):
                    raise PauseError(problem.message, problem.code, problem.status) from problem
                failures += 1
                if failures == 1:
                    log.warning("people are not asked yet about %s: %s", self.run.execution.id, problem)
                await self.plane.rest(failures, problem)

    async def _there(self) -> bool:
        try:
            await self._look(0)
            return True
        except PlaneError as problem:
            if _gone(problem):
                return False
            raise

    def _final(self, problem: PlaneError, absent: bool, since: float) -> bool:
        """Whether a refusal is for good. ``absent``: the request was looked for just before and is not there."""
        if passing(problem) or problem.status >= 500 or problem.status == 404 and not problem.code:
            return False
        if problem.code == "invalid_state":  # another request of this execution is open, or its next attempt is on the way
            return problem.state in _OVER
        if problem.code == "approval_request_id_in_use":
            return absent
        return problem.code != "stale_attempt" or since > _STALE_PATIENCE

    async def _look(self, hold: int) -> Dict[str, Any]:
        query = f"/approval-status?approval_request_id={quote(self.id, safe='')}" + (f"&wait={hold}s" if hold else "")
        said = await self.plane.send("GET", execution_path(self.run.execution.id, query), None, self.run.headers(), hold + SHORT)
        return said if isinstance(said, dict) else {}

    async def _await(self) -> ApprovalResult:
        failures = 0
        while True:
            began, problem = time.monotonic(), None
            self.news.clear()
            try:
                said = await self._look_until_news()
                if said.get("status") in ("approved", "rejected", "request_changes", "expired"):
                    return self._result(said)
                if said.get("status") == "withdrawn":
                    raise PauseError("the request was withdrawn", "withdrawn")
                failures = 0
            except (PlaneError, OSError, asyncio.TimeoutError) as trouble:
                if _gone(trouble):
                    raise PauseError(str(trouble), getattr(trouble, "code", ""), 404) from trouble
                failures, problem = failures + 1, trouble
                if failures == 1:
                    log.warning("a pause of %s waits for the control plane: %s", self.run.execution.id, trouble)
            if not self.news.is_set() and (problem is not None or time.monotonic() - began < _PAUSE):
                await self.plane.rest(max(failures, 1), problem)

    async def _look_until_news(self) -> Dict[str, Any]:
        """One question that is held. The callback ends it early: it is only a hint, since others may post one too; the next answer decides."""
        look, news = asyncio.ensure_future(self._look(_HOLD)), asyncio.ensure_future(self.news.wait())
        try:
            await asyncio.wait([look, news], return_when=asyncio.FIRST_COMPLETED)
            return look.result() if look.done() else await self._look(0)
        finally:
            look.cancel()
            news.cancel()

    def _result(self, said: Dict[str, Any]) -> ApprovalResult:
        return ApprovalResult(said["status"], said.get("feedback") or "", self.run.execution.id, self.id, said.get("decided_by") or "",
                              said.get("response"), said.get("edited_payload"), said)
