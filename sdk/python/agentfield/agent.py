"""The agent: its functions, what they may do, and its life beside the control plane."""
from __future__ import annotations

import asyncio
import datetime
import hmac
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Awaitable, Callable, Dict, Generator, List, Optional
from urllib.parse import quote

from .ai import AI
from .client import SHORT, Plane, execution_path
from .errors import CallError, PauseError, PlaneError
from .execution import Execution, Executor, Lent, Run, current
from .functions import Function
from .memory import Memory
from .pause import ApprovalResult, Pause
from .presence import Presence, reachable_url
from .router import AgentRouter, Registrar
from .schema import encode
from .server import Request, Response, Server, refuse, reply

log = logging.getLogger("agentfield")
_POLL = 30  # seconds that the control plane holds a question for an outcome
_POLL_PAUSE = 0.5
_live: "List[Agent]" = []  # the agents of this process, for `python -m agentfield`


class Said:
    """What ``note`` and its like give back: it is on its way already, and ``await`` waits until it has arrived or is lost."""

    def __init__(self, future: "Optional[asyncio.Future[None]]" = None) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        if self._future is not None:
            yield from asyncio.shield(self._future).__await__()


class Agent(Registrar):
    """A node: functions that the control plane calls.

    What is left out comes from the environment: ``node_id`` from AGENT_NODE_ID, ``agentfield_server`` from AGENTFIELD_SERVER (else
    http://localhost:8080), ``api_key`` from AGENTFIELD_API_KEY, ``host`` and ``port`` from AGENT_LISTEN_ADDR (else a free port of loopback),
    ``public_url``, under which the control plane reaches the agent, from AGENT_PUBLIC_URL or AGENT_CALLBACK_URL.
    ``max_concurrency`` bounds the functions that run at once; one that waits for a call or a pause does not count.
    ``stop_timeout`` is how many seconds a stopping agent waits for what runs before it cancels it.
    """

    def __init__(self, node_id: str = "", agentfield_server: Optional[str] = None, *, version: str = "", tags: Optional[List[str]] = None,
                 api_key: Optional[str] = None, host: Optional[str] = None, port: Optional[int] = None, public_url: Optional[str] = None,
                 max_concurrency: int = 0, max_input_bytes: int = 32 << 20, heartbeat_interval: float = 10.0,
                 stop_timeout: Optional[float] = None, model: str = "") -> None:
        self.node_id = node_id or os.getenv("AGENT_NODE_ID", "")
        if not self.node_id or len(self.node_id) > 255 or set("./?#% ") & set(self.node_id):
            raise ValueError(f"the node_id {self.node_id!r} must have at most 255 characters and no dots, slashes and spaces")
        if max_concurrency < 0:
            raise ValueError("max_concurrency cannot be negative")
        self.version, self.tags, self.max_concurrency = version, list(tags or []), max_concurrency
        server = agentfield_server or os.getenv("AGENTFIELD_SERVER") or "http://localhost:8080"
        key = api_key if api_key is not None else os.getenv("AGENTFIELD_API_KEY") or os.getenv("AGENTFIELD_TOKEN") or ""
        self.plane = Plane(server, key, self.node_id)
        self.host, self.port = host, port
        self._public_url = (public_url or os.getenv("AGENT_PUBLIC_URL") or os.getenv("AGENT_CALLBACK_URL") or "").rstrip("/")
        self.url = self._public_url  # what is registered; known once the agent listens
        self.instance_id = secrets.token_hex(13)
        self.functions: Dict[str, Function] = {}  # by "reasoner name" and "skill name"
        self.heartbeat_interval, self._limit = heartbeat_interval, max_input_bytes
        self.stop_timeout = float(os.getenv("AGENT_STOP_TIMEOUT", "30")) if stop_timeout is None else stop_timeout
        self._internal_token = os.getenv("AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN", "")
        self._ai = AI(model)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._thread = 0  # in which the loop runs
        self._executor: Optional[Executor] = None
        self._server: Optional[Server] = None
        self._presence: Optional[Presence] = None
        self._began = time.time()
        self.served = False
        _live.append(self)

    def _add(self, call: Callable[..., Any], name: str, kind: str, options: Dict[str, Any]) -> None:
        function = Function(call, name, kind, **options)
        if f"{kind} {name}" in self.functions:
            raise ValueError(f"the {kind} {name!r} is registered twice")
        self.functions[f"{kind} {name}"] = function

    def include_router(self, router: AgentRouter, prefix: Optional[str] = None) -> None:
        """Take over the functions of a router, under its prefix or the one given here."""
        router.attach(self, prefix)

    # What functions may do.

    @property
    def execution(self) -> Optional[Execution]:
        """The execution that the running code belongs to; None outside of functions."""
        run = current.get()
        return run.execution if run is not None else None

    @property
    def memory(self) -> Memory:
        """Values that agents share; see agentfield.memory."""
        return Memory(lambda: self.plane)

    async def ai(self, prompt: Any = None, *, system: Any = None, user: Any = None, schema: Any = None, model: Optional[str] = None,
                 **options: Any) -> Any:
        """Ask the language model: its words, or with ``schema`` (a type) a value of that type. Raises AIError. See agentfield.ai."""
        return await self._ai.ask(prompt, system, user, schema, {"model": model, **options})

    async def call(self, target: str, *args: Any, **inputs: Any) -> Any:
        """Run a function of any agent, ``"node.function"``, through the control plane, and return its result, however long that takes.

        The input is given by keywords, or as one dict. The new execution becomes a child of the running one. A call is known by its target,
        its input and how often the execution has made it: if this execution is repeated after a crash, the same call joins the child that is
        there already. Raises CallError if the child did not succeed or was refused.
        """
        if len(args) > 1 or args and not isinstance(args[0], dict):
            raise TypeError("give the input of a call by keywords, or as one dict")
        body = encode({"input": {**(args[0] if args else {}), **inputs}})
        run = current.get()
        async with Lent(self._executor.slots if self._executor else None, run):
            try:
                child = ""
                child = await self._submit(run, target, body)
                return await self._result(target, child)
            except PlaneError as problem:
                raise CallError(target, execution_id=child, error=problem.message, http_status=problem.status, code=problem.code) from problem

    async def _submit(self, run: Optional[Run], target: str, body: bytes) -> str:
        headers = {"X-Caller-Agent-ID": self.node_id, "Idempotency-Key": secrets.token_hex(16)}
        if run is not None and run.execution.id:  # the key makes it safe to send again when the answer was lost
            headers.update(run.execution.shared(), **{"X-Parent-Execution-ID": run.execution.id, "Idempotency-Key": run.step(target, body)})
        path = "/api/v1/execute/async/" + quote(target, safe="")
        accepted = await self.plane.persist(lambda: self.plane.send("POST", path, body, headers), self._waits)
        if not isinstance(accepted, dict) or not accepted.get("execution_id"):
            raise PlaneError(202, "the answer names no execution")
        return str(accepted["execution_id"])

    async def _result(self, target: str, child: str) -> Any:
        while True:
            asked = time.monotonic()
            path = execution_path(child, f"?wait={_POLL}s")
            said = await self.plane.persist(lambda: self.plane.send("GET", path, timeout=_POLL + SHORT), self._waits) or {}
            status = said.get("status")
            if status == "succeeded":
                return said.get("result")
            if status in ("failed", "timeout", "cancelled"):
                raise CallError(target, execution_id=child, status=status, error=said.get("error") or "", details=said.get("error_details"))
            if time.monotonic() - asked < _POLL_PAUSE:
                await asyncio.sleep(self.plane.pause(1))

    def _waits(self, problem: BaseException) -> None:
        log.warning("a call waits for the control plane: %s", problem)

    async def pause(self, approval_request_id: Optional[str] = None, approval_request_url: Optional[str] = None, *,
                    title: Optional[str] = None, description: Optional[str] = None, risk: Optional[str] = None, next: Optional[str] = None,
                    payload: Any = None, form: Optional[Dict[str, Any]] = None, editable: Optional[bool] = None,
                    expires_in_hours: Optional[float] = None, on_reject: Optional[str] = None, on_expire: Optional[str] = None,
                    policy: Optional[Dict[str, Any]] = None) -> ApprovalResult:
        """Ask people and wait for their decision, however long that takes: through restarts of the control plane, with the slot of the
        execution given to others.

        Without an id one is derived from the execution, what is asked and how often; one of your own must differ between the requests of an
        execution. Without a URL people decide on the control plane's own page, which shows title, description, risk (low, medium, high), next
        (what happens after an approval) and payload. ``form`` is a JSON Schema of questions, ``editable`` lets the reviewer change the payload,
        ``policy`` says who may decide: {"approvers": ["group:claims"], "quorum": 2}. An expiry is a decision. Raises PauseError.
        """
        run = current.get()
        if run is None or not run.execution.id or self._executor is None:
            raise PauseError("pause works only inside of an execution")
        asked = {"title": title, "description": description, "risk": risk, "next": next, "payload": payload, "form": form, "editable": editable,
                 "approval_request_url": approval_request_url, "expires_in_hours": expires_in_hours, "on_reject": on_reject,
                 "on_expire": on_expire, "policy": policy}
        request = Pause(self.plane, run, self.url + "/webhooks/approval", approval_request_id, asked)
        async with Lent(self._executor.slots, run):
            return await request.decision()

    def note(self, message: str, tags: Optional[List[str]] = None) -> Said:
        """Write a line into the story of the execution. It works with and without ``await``, and never fails the function."""
        return self._tell("/api/v1/executions/note", {"message": str(message), "tags": list(tags or [])})

    def progress(self, fraction: Optional[float] = None, message: str = "", *, partial: Any = None) -> Said:
        """Tell how far the execution is, from 0 to 1, what it is doing, and what there is of the result; like ``note``."""
        said = {"progress": fraction, "message": message or None, "partial": partial}
        return self._tell("{execution}/progress", {key: value for key, value in said.items() if value is not None})

    def log(self, level: str, message: str, **attributes: Any) -> Said:
        """Add a line to the log of the execution: debug, info, warn or error; like ``note``."""
        run = current.get()
        entry = {"v": 1, "ts": datetime.datetime.now(datetime.timezone.utc).isoformat(), "agent_node_id": self.node_id, "level": level,
                 "source": "sdk.user", "message": str(message), "attributes": attributes, "sdk_language": "python"}
        if run is not None:
            entry.update(execution_id=run.execution.id, run_id=run.execution.run_id, reasoner_id=run.function.name, attempt=run.attempt)
        return self._tell("{execution}/logs", entry)

    def _tell(self, path: str, body: Dict[str, Any]) -> Said:
        run, loop = current.get(), self._loop
        if run is None or not run.execution.id or loop is None:
            return Said()
        path = path.replace("{execution}", execution_path(run.execution.id, ""))

        async def say() -> None:
            await self.plane.send("POST", path, body, run.headers(), 5.0)

        if threading.get_ident() == self._thread:
            return Said(run.tell(say))
        loop.call_soon_threadsafe(run.tell, say)
        return Said()

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """For functions that are not async, which run in threads: ``app.wait(app.call(...))`` waits for what an async one would await."""
        if self._loop is None or threading.get_ident() == self._thread:
            raise RuntimeError("use await here: wait is for functions that are not async, while the agent runs")

        async def inside() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result()

    # The life of the agent.

    def serve(self, port: Optional[int] = None, host: Optional[str] = None) -> None:
        """Run until SIGTERM or Ctrl-C: register, answer calls, and stop without dropping work. A second signal ends it at once.

        While the control plane is away, it is tried again for ever; only a first registration that is refused raises (PlaneError).
        """
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
        self.host, self.port = host or self.host, port if port is not None else self.port
        try:
            asyncio.run(self._serve())
        except KeyboardInterrupt:
            pass

    run = serve

    async def _serve(self) -> None:
        await self.start()
        assert self._presence is not None
        present, stop, loop = self._presence.task, asyncio.Event(), asyncio.get_running_loop()

        def asked() -> None:
            for number in _signals(loop):
                loop.remove_signal_handler(number)  # so that a second signal ends it at once
            stop.set()

        for number in _signals(loop):
            loop.add_signal_handler(number, asked)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            ends: "list[asyncio.Task[Any]]" = [stopping, present]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            refused = present.exception() if present.done() else None
        finally:
            stopping.cancel()
            await self.stop()
        if refused is not None:
            raise refused

    async def start(self) -> None:
        """Listen and begin to register, in the running loop; ``stop`` ends it. ``serve`` does both."""
        _raise_file_limit()
        self.served, self._loop, self._thread = True, asyncio.get_running_loop(), threading.get_ident()
        self._executor = Executor(self.plane, self.max_concurrency, ThreadPoolExecutor(self.max_concurrency or 64, "agentfield"))
        self._server = Server(self._handle, self._limit)
        listen = os.getenv("AGENT_LISTEN_ADDR", "").rpartition(":")
        host = self.host or listen[0].strip("[]") or "127.0.0.1"
        host, port = await self._server.start(host, self.port if self.port is not None else int(listen[2] or 0))
        self.url = self._public_url or reachable_url(host, port, self.plane.http)
        if self._ai.kind == "fake":
            log.info("app.ai answers with the offline model; set OPENAI_API_KEY or AGENTFIELD_AI_URL for a real one")
        self._presence = Presence(self)

    async def stop(self) -> None:
        """In the order that loses nothing: first nobody sends more, then what runs ends, then its outcomes are handed over."""
        if self._server is None or self._executor is None or self._presence is None:
            return
        await self._presence.end()
        self._server.stop_listening()
        if not await self._executor.settle(self.stop_timeout):
            left = await self._executor.abort("the agent is stopping", 5.0)
            if left:
                log.error("%d executions did not end although they were cancelled", left)
        await self._server.close(5.0)
        await self._executor.settle(5.0)  # the reports of what could not be answered
        self._executor.threads.shutdown(wait=False)
        await self.plane.http.close()
        self._server = self._presence = None

    # What the control plane asks.

    async def _handle(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if request.method == "GET" and request.path in ("/health", "/status", "/metrics"):
            return self._about(parts[0])
        if request.method != "POST":
            return refuse(404, f"this agent has no {request.method} {request.path}")
        token = request.headers.get("authorization", "")
        if self._internal_token and not hmac.compare_digest(token.encode(), ("Bearer " + self._internal_token).encode()):
            return refuse(401, "this agent takes calls only from its control plane: the bearer token is missing or wrong")
        try:
            body = json.loads(request.body) if request.body.strip() else {}
        except (ValueError, RecursionError):
            return refuse(400, "the input is not JSON")
        if len(parts) == 2 and parts[0] in ("reasoners", "skills"):
            return await self._dispatched(parts[0][:-1], parts[1], body, request)
        body = body if isinstance(body, dict) else {}
        if len(parts) == 4 and parts[:2] == ["_internal", "executions"] and parts[3] == "cancel":
            return self._cancelled(parts[2], body)
        if parts == ["webhooks", "approval"]:
            return self._decided(body)
        return refuse(404, f"this agent has no POST {request.path}")

    async def _dispatched(self, kind: str, name: str, given: Any, request: Request) -> Response:
        """Hold the call until the function ends and answer with what came of it."""
        function, executor = self.functions.get(f"{kind} {name}"), self._executor
        if function is None or executor is None:
            return refuse(404, f"{self.node_id} has no {kind} {name!r}")
        run = executor.begin(function, Execution.of(request.headers, self.node_id, name), request.headers.get("x-execution-token", ""), given)
        ended = asyncio.ensure_future(run.done.wait())
        either: "List[asyncio.Future[Any]]" = [ended, request.gone]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if run.outcome is None:  # the connection is gone; the function goes on
            executor.leave(run, False)
            return refuse(499, "nobody is there")
        run.offered = True  # before it is written: the next attempt may be here before the writer knows that it was delivered
        return Response(run.outcome.status, run.outcome.body(), sent=lambda delivered: executor.leave(run, delivered))

    def _cancelled(self, execution_id: str, notice: Dict[str, Any]) -> Response:
        run = self._executor.ledger.runs.get(execution_id) if self._executor else None
        if run is None or run.outcome is not None:
            return reply(200, {"cancelled": False, "execution_id": execution_id, "reason": "execution_not_active"})
        reason = notice.get("reason")
        run.cancel("cancelled by the control plane" + (f": {reason}" if reason else ""), 499)
        return reply(200, {"cancelled": True, "execution_id": execution_id})

    def _decided(self, word: Dict[str, Any]) -> Response:
        """The word that a request is decided. What was decided is read from the control plane, not from here."""
        run = self._executor.ledger.runs.get(str(word.get("execution_id"))) if self._executor else None
        news = run.pauses.get(str(word.get("approval_request_id"))) if run is not None else None
        if news is not None:
            news.set()
        return reply(200, {"status": "received", "resolved": news is not None})

    def _about(self, what: str) -> Response:
        executor = self._executor
        assert executor is not None
        if what == "health":
            return reply(200, {"status": "ok", "node_id": self.node_id})
        if what == "status":
            return reply(200, {"status": "running", "node_id": self.node_id, "instance_id": self.instance_id, "version": self.version,
                               "uptime_seconds": int(time.time() - self._began), "in_flight": executor.in_flight})
        lines = ""
        for name, kind, text, value in (
                ("started_total", "counter", "Executions that this process began.", executor.started),
                ("succeeded_total", "counter", "Executions that ended with a result.", executor.succeeded),
                ("failed_total", "counter", "Executions that ended with a failure or were cancelled.", executor.failed),
                ("in_flight", "gauge", "Executions that run or wait for a slot.", executor.in_flight)):
            name = "agent_executions_" + name
            lines += f'# HELP {name} {text}\n# TYPE {name} {kind}\n{name}{{node="{self.node_id}"}} {value}\n'
        return Response(200, lines.encode(), "text/plain; version=0.0.4; charset=utf-8")


def _signals(loop: asyncio.AbstractEventLoop) -> List[int]:
    """Those that end the agent gracefully; none where loops cannot hear them (Windows, other threads)."""
    able = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
    return [signal.SIGTERM, signal.SIGINT] if able else []


def _raise_file_limit() -> None:
    """Each call that is held open is a file; the soft limit of many systems is 1,024."""
    try:
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
    except (ImportError, ValueError, OSError):
        pass
