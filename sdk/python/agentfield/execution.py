"""Executions in this process.

The invariant is that of the Go SDK: within one process an execution runs once. Its function is not bound to the connection that asked
for it, so the control plane may die in between; when it comes back and asks again, with the same execution id and a higher attempt, it
joins the function that still runs, or gets the outcome that was kept. Only a failure that the control plane has seen is run again.
An outcome that no connection could carry is reported, again and again, until the control plane has it or does not want it.
"""
from __future__ import annotations

import asyncio
import contextvars
import hashlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from .client import Plane, execution_path, passing
from .errors import AgentfieldError, FunctionError, PlaneError
from .functions import Function
from .schema import encode

log = logging.getLogger("agentfield")
CANCELLED = 499  # "client closed request": answers a call whose execution was cancelled
_KEEP_SECONDS, _KEEP_BYTES, _KEEP_PER_ITEM = 600.0, 32 << 20, 512
_DRAIN_SECONDS = 5.0  # how long an outcome waits for the notes that were written before it


@dataclass(frozen=True)
class Execution:
    """What a function may know about the call it answers. Ids are empty when it was called past the control plane."""

    id: str
    run_id: str  # shared by all executions that belong together
    workflow_id: str  # the caller's own name of the run, else equal to run_id
    parent_id: str
    session_id: str
    actor_id: str
    caller_node_id: str
    traceparent: str
    attempt: int  # 1 for the first try
    node_id: str
    function: str

    @classmethod
    def of(cls, headers: Dict[str, str], node_id: str, function: str) -> "Execution":
        def get(name: str) -> str:
            return headers.get(name, "")

        attempt = get("x-attempt")
        return cls(id=get("x-execution-id"), run_id=get("x-run-id"), workflow_id=get("x-workflow-id"), parent_id=get("x-parent-execution-id"),
                   session_id=get("x-session-id"), actor_id=get("x-actor-id"), caller_node_id=get("x-caller-agent-id"),
                   traceparent=get("traceparent"), attempt=max(int(attempt), 1) if attempt.isdigit() else 1, node_id=node_id, function=function)

    def shared(self) -> Dict[str, str]:
        """The headers that everything an execution causes carries along."""
        return {"X-Run-ID": self.run_id, "X-Workflow-ID": self.workflow_id, "X-Session-ID": self.session_id, "X-Actor-ID": self.actor_id,
                "Traceparent": self.traceparent}


@dataclass(frozen=True)
class Outcome:
    """How an execution ended, in the words of HTTP: a result as JSON, or a failure."""

    status: int
    result: bytes = b""
    error: str = ""
    details: Any = None

    @property
    def failed(self) -> bool:
        return self.status >= 400

    def body(self) -> bytes:
        return encode({"error": self.error, "error_details": self.details}) if self.failed else self.result


def outcome_of(value: Any) -> Outcome:
    try:
        return Outcome(200, encode(value))
    except (TypeError, ValueError, RecursionError) as wrong:
        return Outcome(500, error=f"the result cannot be written as JSON: {wrong}")


def failure_of(problem: BaseException) -> Outcome:
    if isinstance(problem, FunctionError):
        try:
            encode(problem.details)
        except (TypeError, ValueError, RecursionError):
            return Outcome(problem.status, error=str(problem), details=repr(problem.details))
        return Outcome(problem.status, error=str(problem), details=problem.details)
    kind = type(problem).__name__
    words = str(problem) if isinstance(problem, AgentfieldError) or type(problem) in (Exception, RuntimeError) else f"{kind}: {problem}"
    return Outcome(500, error=words or kind, details={"type": kind})


class Run:
    """One execution at work, then its outcome until that is forgotten."""

    def __init__(self, execution: Execution, function: Function, token: str, generation: int) -> None:
        self.execution, self.function = execution, function
        self.generation = generation  # failures before this run that the control plane has seen
        self.attempt, self.token = execution.attempt, token  # the newest of those that joined
        self.waiters = 1  # connections that wait for the outcome
        self.offered = self.taken = False  # on its way over a connection; the control plane has it or wants none
        self.outcome: Optional[Outcome] = None
        self.done = asyncio.Event()
        self.task: "Optional[asyncio.Task[None]]" = None
        self.stop_reason = ""  # why the task was cancelled by us
        self.stop_status = CANCELLED
        self.pauses: Dict[str, asyncio.Event] = {}  # requests for a decision by id, each with what tells of news
        self.lent = 0  # calls that the slot is lent for
        self.holds = False  # a slot
        self._steps: Dict[bytes, int] = {}
        self._told: Deque[Callable[[], Any]] = deque()
        self._teller: "Optional[asyncio.Task[None]]" = None

    def join(self, attempt: int, token: str) -> None:
        self.waiters += 1
        if attempt >= self.attempt:
            self.attempt, self.token = attempt, token

    def repeatable(self, attempt: int) -> bool:
        """Whether a dispatch is the next try of a failure that the control plane has seen, rather than a question for it."""
        return self.outcome is not None and self.outcome.failed and (self.taken or self.offered) and attempt > self.attempt

    def cancel(self, reason: str, status: int) -> None:
        if self.task is not None and self.outcome is None and not self.stop_reason:
            self.stop_reason, self.stop_status = reason, status
            self.task.cancel()

    def step(self, target: str, body: bytes) -> str:
        """The key of a call that this execution makes. It depends on what is called and how often, not on time or order of tasks, so that an
        execution that is repeated after a crash finds the children it has."""
        return self._key(self.generation, target, body)

    def question(self, body: bytes) -> str:
        """The id of a request for a decision; that of every attempt, since what people have decided stands."""
        return "pause_" + self._key(0, "", body)

    def _key(self, generation: int, target: str, body: bytes) -> str:
        call = hashlib.sha256(target.encode() + b"\n" + body).digest()
        self._steps[call] = self._steps.get(call, 0) + 1
        return hashlib.sha256(f"{self.execution.id}\n{generation}\n{call.hex()}\n{self._steps[call]}".encode()).hexdigest()[:32]

    def headers(self) -> Dict[str, str]:
        """What proves which execution speaks, with the newest token it has."""
        return {**self.execution.shared(), "X-Execution-ID": self.execution.id, "X-Execution-Token": self.token}

    def tell(self, say: Callable[[], Any]) -> "asyncio.Future[None]":
        """Send something after what was told before it, in the background; the future is done when it has been sent or lost."""
        said: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()

        async def turn() -> None:
            try:
                await say()
            except (AgentfieldError, OSError, asyncio.TimeoutError, TypeError, ValueError) as problem:
                log.warning("the control plane did not take a note of %s: %s", self.execution.id, problem)
            finally:
                if not said.done():
                    said.set_result(None)

        self._told.append(turn)
        if self._teller is None or self._teller.done():
            self._teller = asyncio.ensure_future(self._tell())
        return said

    async def _tell(self) -> None:
        while self._told:
            await self._told.popleft()()

    async def told(self) -> None:
        """Wait for the notes on their way, for a moment."""
        if self._teller is not None and not self._teller.done():
            await asyncio.wait([self._teller], timeout=_DRAIN_SECONDS)


current: "contextvars.ContextVar[Optional[Run]]" = contextvars.ContextVar("agentfield_run", default=None)


class Slots:
    """Bounds how many executions run at once; a function that waits for a call or a pause lends its place to others."""

    def __init__(self, limit: int) -> None:
        self._places = asyncio.Semaphore(limit) if limit else None

    async def take(self, run: Run) -> None:
        if self._places is not None and not run.holds:
            await self._places.acquire()
            run.holds = True

    def give(self, run: Run) -> None:
        if self._places is not None and run.holds:
            run.holds = False
            self._places.release()


class Lent:
    """``async with Lent(slots, run)``: the place is given away until the block ends. Without a run it does nothing."""

    def __init__(self, slots: Optional[Slots], run: Optional[Run]) -> None:
        self.slots, self.run = slots, run

    async def __aenter__(self) -> None:
        if self.slots is not None and self.run is not None:
            self.run.lent += 1
            self.slots.give(self.run)

    async def __aexit__(self, *_: Any) -> None:
        if self.slots is not None and self.run is not None:
            self.run.lent -= 1
            if self.run.lent == 0 and self.run.outcome is None and not self.run.stop_reason:
                await self.slots.take(self.run)


class Ledger:
    """The runs of this process by execution id. Outcomes that the control plane has are kept for a while, since an answer that was sent
    may still be lost with the control plane; the oldest go first."""

    def __init__(self) -> None:
        self.runs: Dict[str, Run] = {}
        self._kept: Deque[Tuple[Run, float, int]] = deque()
        self._bytes = 0

    def find(self, execution: Execution, token: str, function: Function) -> "tuple[Run, bool]":
        """Join the run of an execution, or make one if there is none or the last one may be repeated."""
        known, generation = self.runs.get(execution.id), 0
        if known is not None and execution.id:
            if not known.repeatable(execution.attempt):
                known.join(execution.attempt, token)
                return known, False
            generation = known.generation + 1
        run = Run(execution, function, token, generation)
        if execution.id:
            self.runs[execution.id] = run
        return run, True

    def keep(self, run: Run) -> None:
        """Start the clock after which a run is forgotten, and forget those that are due."""
        if not run.execution.id or run.outcome is None:
            return
        now, size = time.monotonic(), len(run.outcome.result) + _KEEP_PER_ITEM
        self._kept.append((run, now, size))
        self._bytes += size
        while self._kept and (self._bytes > _KEEP_BYTES or now - self._kept[0][1] > _KEEP_SECONDS):
            old, _, old_size = self._kept.popleft()
            self._bytes -= old_size
            if self.runs.get(old.execution.id) is old:
                del self.runs[old.execution.id]


class Executor:
    """Runs functions to their end and sees to it that every outcome arrives."""

    def __init__(self, plane: Plane, limit: int, threads: Any) -> None:
        self.plane, self.threads, self.slots, self.ledger = plane, threads, Slots(limit), Ledger()
        self.started = self.succeeded = self.failed = self.in_flight = 0
        self._work: "set[asyncio.Task[None]]" = set()

    def begin(self, function: Function, execution: Execution, token: str, given: Any) -> Run:
        """Find the run that a dispatch belongs to, or start it. The caller waits for it and must leave it."""
        run, fresh = self.ledger.find(execution, token, function)
        if fresh:
            self.started += 1
            self.in_flight += 1
            context = contextvars.copy_context()
            context.run(current.set, run)
            run.task = context.run(self._spawn, self._execute(run, given))
        return run

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        task: "asyncio.Task[None]" = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _execute(self, run: Run, given: Any) -> None:
        try:
            await self.slots.take(run)
            outcome = outcome_of(await run.function.invoke(given, self.threads))
        except asyncio.CancelledError as ended:
            outcome = failure_of(RuntimeError(str(ended) or "the function cancelled itself"))
        except (Exception, SystemExit, GeneratorExit) as problem:
            outcome = failure_of(problem)
            if not isinstance(problem, FunctionError) and not run.stop_reason:
                log.error("%s of %s failed: %s", run.function.name, run.execution.id or "a direct call", problem, exc_info=problem)
        if run.stop_reason and outcome.failed:
            outcome = Outcome(run.stop_status, error=run.stop_reason)
        try:
            await run.told()
        except asyncio.CancelledError:  # a cancel that came after the end: the outcome stands
            pass
        self._finish(run, outcome)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        run.outcome = outcome
        self.slots.give(run)
        self.in_flight -= 1
        self.failed, self.succeeded = self.failed + outcome.failed, self.succeeded + (not outcome.failed)
        # Who cancelled the execution does not ask for its failure; a result that came all the same is worth telling.
        run.taken = outcome.status == CANCELLED or not run.execution.id
        run.done.set()
        if run.taken:
            self.ledger.keep(run)
        elif run.waiters == 0:
            self._spawn(self._report(run))

    def leave(self, run: Run, delivered: bool) -> None:
        """Take a waiting connection away; delivered says that it carried the outcome. The last one to leave without it makes us report."""
        run.waiters -= 1
        run.offered = False
        if delivered:
            self._settled(run)
        elif run.waiters == 0 and run.outcome is not None and not run.taken:
            self._spawn(self._report(run))

    def _settled(self, run: Run) -> None:
        if not run.taken:
            run.taken = True
            self.ledger.keep(run)

    async def _report(self, run: Run) -> None:
        """Hand over an outcome that no connection could carry. A connection that joins in the meantime may be quicker."""
        outcome, failures = run.outcome, 0
        assert outcome is not None
        body = encode({"status": "failed", "error": outcome.error, "error_details": outcome.details}) if outcome.failed else (
            b'{"status":"succeeded","result":' + outcome.result + b"}")
        while not run.taken:
            try:
                await self.plane.send("POST", execution_path(run.execution.id, "/status"), body, run.headers())
                log.info("reported the outcome of %s, whose connection was lost", run.execution.id)
                break
            except (PlaneError, OSError, asyncio.TimeoutError) as problem:
                if isinstance(problem, PlaneError) and problem.status < 500 and not passing(problem):
                    log.info("the outcome of %s is not wanted: %s", run.execution.id, problem)  # it ended in another way
                    break
                failures += 1
                await self.plane.rest(failures, problem)
        self._settled(run)

    async def settle(self, patience: float) -> bool:
        """Wait until all functions and reports have come to their end; False when that took too long."""
        until = time.monotonic() + patience
        while self._work and time.monotonic() < until:
            await asyncio.wait(set(self._work), timeout=max(until - time.monotonic(), 0))
        return not self._work

    async def abort(self, reason: str, patience: float) -> int:
        """Cancel what still runs; what did not end even so is counted."""
        for run in list(self.ledger.runs.values()):
            run.cancel(reason, 503)
        await self.settle(patience)
        for task in set(self._work):
            task.cancel()
        return self.in_flight
