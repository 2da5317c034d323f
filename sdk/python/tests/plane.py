"""A control plane in memory, for tests of the SDK. It keeps the protocol's forms and none of its durability."""
from __future__ import annotations

import asyncio
import json
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import parse_qs, unquote

from agentfield import Agent
from agentfield.client import Answer, Client
from agentfield.server import Request, Response, Server, reply

PATIENCE = 30.0


class Plane:
    """It registers nodes, dispatches what is submitted at once, and takes reports and requests for decisions. It can fall over."""

    def __init__(self) -> None:
        self.requests: List[Any] = []  # (method, path, headers, body)
        self.nodes: Dict[str, Dict[str, Any]] = {}
        self.executions: Dict[str, Dict[str, Any]] = {}
        self.keys: Dict[str, str] = {}
        self.approvals: Dict[str, Dict[str, Any]] = {}
        self.memory: Dict[Any, Any] = {}
        self.intercept: Optional[Callable[[Request], Optional[Response]]] = None
        self.changed: asyncio.Event = asyncio.Event()
        self.dispatches: "set[asyncio.Task[Any]]" = set()
        self.server: Optional[Server] = None
        self.background: "set[asyncio.Task[Any]]" = set()
        self.port = 0

    async def start(self) -> "Plane":
        self.server = Server(self._handle, 1 << 26)
        _, self.port = await self.server.start("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def crash(self) -> None:
        """Every connection breaks, in both directions, until ``start``."""
        for task in list(self.dispatches):
            task.cancel()
        await asyncio.gather(*self.dispatches, return_exceptions=True)
        server, self.server = self.server, None
        self.changed.set()
        if server is None:
            return
        for connection in list(server.connections):
            connection.transport.abort()
        await server.close()

    async def until(self, condition: Callable[[], Any]) -> Any:
        async def wait() -> Any:
            while True:
                found = condition()
                if found:
                    return found
                self.changed.clear()
                await self.changed.wait()

        return await asyncio.wait_for(wait(), PATIENCE)

    def seen(self, method: str, prefix: str) -> List[Any]:
        return [r for r in self.requests if r[0] == method and r[1].startswith(prefix)]

    async def dispatch(self, target: str, body: Any, execution_id: str = "", attempt: int = 1, **headers: str) -> Answer:
        """Call an agent as the control plane does."""
        node, name = target.split(".")
        known = self.nodes[node]
        kind = "skills" if any(f["id"] == name for f in known["skills"]) else "reasoners"
        own = {"Content-Type": "application/json", "X-Execution-ID": execution_id, "X-Attempt": str(attempt), "X-Run-ID": "run_1",
               "X-Execution-Token": f"{attempt}.token"}
        own.update({name.replace("_", "-"): value for name, value in headers.items()})
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        client = Client(known["base_url"])
        task = asyncio.ensure_future(client.request("POST", f"/{kind}/{name}", own, payload, PATIENCE))
        self.dispatches.add(task)
        task.add_done_callback(self.dispatches.discard)
        try:
            return await task
        finally:
            await client.close()

    def decide(self, request_id: str, decision: str, feedback: str = "", **more: Any) -> None:
        approval = self.approvals[request_id]
        approval["answer"].update(status=decision, feedback=feedback, decided_by="reviewer", **more)
        self.executions[approval["execution_id"]]["status"] = "running"
        self.changed.set()

    async def _handle(self, request: Request) -> Response:
        body = json.loads(request.body) if request.body else None
        self.requests.append((request.method, request.path, request.headers, body))
        self.changed.set()
        answer = self.intercept(request) if self.intercept else None
        if answer is not None:
            return answer
        words = unquote(request.path).strip("/").split("/")[2:]
        return await self._route(request, words, body)

    async def _route(self, request: Request, words: List[str], body: Any) -> Response:
        if words == ["nodes", "register"]:
            self.nodes[body["id"]] = body
            self.changed.set()
            return reply(201, {"success": True, "node_token": "node_1"})
        if words[0] == "nodes":
            known = words[1] in self.nodes
            return reply(200, {"lease_seconds": 300}) if known else reply(404, {"error": "node not found", "code": "node_not_found"})
        if words[:2] == ["execute", "async"]:
            return self._submit(words[2], body, request.headers)
        if words[0] == "memory":
            return self._memory(words[1], body)
        if words == ["executions", "note"] or words[-1] in ("progress", "logs"):
            return reply(200, {"success": True})
        execution = self.executions.setdefault(words[1], {"status": "running"})
        if words[-1] == "status":
            execution.update(status=body["status"], result=body.get("result"), error=body.get("error"))
            self.changed.set()
            return reply(200, {})
        if words[-1] == "request-approval":
            return self._ask(words[1], execution, body)
        if words[-1] == "approval-status":
            return await self._standing(request)
        await self._hold(lambda: execution["status"] in ("succeeded", "failed", "timeout", "cancelled"))
        return reply(200, execution)

    def _submit(self, target: str, body: Any, headers: Dict[str, str]) -> Response:
        node, name = target.split(".")
        if node not in self.nodes:
            return reply(404, {"error": "Target not found", "details": f"there is no agent {node}", "code": "target_not_found"})
        key = headers.get("idempotency-key", "")
        if key not in self.keys:
            self.keys[key] = f"exec_{len(self.keys) + 1}"
            self.executions[self.keys[key]] = {"status": "running", "target": target, "input": body["input"], "headers": headers}
            task = asyncio.ensure_future(self._work(self.keys[key], target, body["input"]))
            self.background.add(task)
            task.add_done_callback(self.background.discard)
        return reply(202, {"execution_id": self.keys[key], "status": "queued"})

    async def _work(self, execution_id: str, target: str, given: Any) -> None:
        try:
            answer = await self.dispatch(target, given, execution_id)
        except (OSError, asyncio.CancelledError):
            return
        said = answer.json()
        self.executions[execution_id].update(status="succeeded", result=said) if answer.status < 400 else self.executions[execution_id].update(
            status="failed", error=said["error"], error_details=said)
        self.changed.set()

    def _memory(self, verb: str, body: Any) -> Response:
        key = (body.get("scope"), body["key"])
        if verb == "set":
            self.memory[key] = body["data"]
        elif verb == "delete":
            self.memory.pop(key, None)
            return Response(204, b"")
        elif key not in self.memory:
            return reply(404, {"error": "not_found", "code": 404})
        return reply(200, {"key": body["key"], "data": self.memory[key]})

    def _ask(self, execution_id: str, execution: Dict[str, Any], body: Any) -> Response:
        if execution["status"] != "running":
            return reply(409, {"error": "invalid_state", "code": "invalid_state", "status": execution["status"]})
        execution["status"] = "waiting"
        self.approvals[body["approval_request_id"]] = {"execution_id": execution_id, "request": body, "answer": {"status": "pending"}}
        self.changed.set()
        return reply(200, {"approval_request_id": body["approval_request_id"], "status": "pending"})

    async def _standing(self, request: Request) -> Response:
        query = parse_qs(request.query)
        approval = self.approvals.get(query["approval_request_id"][0])
        if approval is None:
            return reply(404, {"error": "no_approval_request", "code": "no_approval_request"})
        if "wait" in query:
            await self._hold(lambda: approval["answer"]["status"] != "pending")
        return reply(200, approval["answer"])

    async def _hold(self, condition: Callable[[], bool]) -> None:
        try:
            await self.until(lambda: condition() or self.server is None)
        except asyncio.TimeoutError:
            pass


async def started(plane: Plane, agent: Agent) -> Agent:
    agent.plane.pause = lambda failures: 0.01
    await agent.start()
    await plane.until(lambda: agent.node_id in plane.nodes)
    return agent


def agent_for(plane: Plane, node_id: str = "tester", **options: Any) -> Agent:
    return Agent(node_id, plane.url, **options)
