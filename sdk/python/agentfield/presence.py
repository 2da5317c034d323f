"""Being known to the control plane: registration, the lease, and the farewell."""
from __future__ import annotations

import asyncio
import logging
import platform
import random
import socket
from typing import TYPE_CHECKING, Any, Dict, List
from urllib.parse import quote

from .client import Client, passing
from .errors import PlaneError

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger("agentfield")
_TROUBLE = (PlaneError, OSError, asyncio.TimeoutError)


class Presence:
    """Keeps the control plane aware of the agent until ``end``. It gives up only when the first registration is refused for good."""

    def __init__(self, agent: "Agent") -> None:
        self.agent, self.plane, self.known = agent, agent.plane, False
        self.task = asyncio.ensure_future(self._stay())

    async def _stay(self) -> None:
        while True:
            await self._register()
            await self._renew_until_lost()

    async def _register(self) -> None:
        failures = 0
        while True:
            try:
                answer = await self.plane.send("POST", "/api/v1/nodes/register", self._registration()) or {}
                self.plane.token, self.known = answer.get("node_token") or "", True
                log.info("registered %s at %s as %s with %s", self.agent.node_id, self.plane.url, self.agent.url,
                         ", ".join(f.name for f in self.agent.functions.values()) or "no functions")
                return
            except _TROUBLE as problem:
                if not self.known and _refused(problem):
                    raise
                failures += 1
                if failures == 1:
                    log.warning("cannot register at %s; trying again until it works: %s", self.plane.url, problem or "no answer")
                await self.plane.rest(failures, problem)

    async def _renew_until_lost(self) -> None:
        """Until the control plane does not know the agent any more or is away: it may have lost what it knew, and registering again is right."""
        body = {"phase": "ready", "version": self.agent.version, "instance_id": self.agent.instance_id}
        while True:
            try:
                answer = await self.plane.send("PATCH", self._path("/status"), body) or {}
            except _TROUBLE as problem:
                log.warning("the lease was not renewed; registering again: %s", problem or "no answer")
                return
            every, lease = self.agent.heartbeat_interval, float(answer.get("lease_seconds") or 0)
            await asyncio.sleep((min(every, lease / 3) if lease > 0 else every) * random.uniform(0.9, 1.0))

    async def end(self) -> None:
        """Take the agent out of rotation before it stops to listen. If nobody hears it, failed calls will tell the same."""
        self.task.cancel()
        if self.known:
            body = {"reason": "shutdown", "version": self.agent.version, "instance_id": self.agent.instance_id}
            try:
                await self.plane.send("POST", self._path("/shutdown"), body, timeout=5.0)
            except _TROUBLE as problem:
                log.warning("the control plane was not told of the stop: %s", problem or "no answer")

    def _path(self, verb: str) -> str:
        return f"/api/v1/nodes/{quote(self.agent.node_id, safe='')}{verb}"

    def _registration(self) -> Dict[str, Any]:
        agent = self.agent
        kinds: Dict[str, List[Any]] = {"reasoner": [], "skill": []}
        for function in agent.functions.values():
            kinds[function.kind].append(function.registration())
        custom: Dict[str, Any] = {"descriptions": {f.name: f.description for f in agent.functions.values() if f.description}}
        if agent.max_concurrency:
            custom["max_concurrency"] = agent.max_concurrency
        return {"id": agent.node_id, "base_url": agent.url, "version": agent.version, "instance_id": agent.instance_id,
                "deployment_type": "long_running", "reasoners": kinds["reasoner"], "skills": kinds["skill"], "proposed_tags": agent.tags,
                "communication_config": {"protocols": ["http"], "heartbeat_interval": f"{agent.heartbeat_interval:g}s"},
                "callback_discovery": {"mode": "explicit", "preferred": agent.url},
                "metadata": {"sdk": {"language": "python", "runtime": platform.python_version()}, "custom": custom}}


def _refused(problem: BaseException) -> bool:
    """The control plane understood and said no. 404 is not among them: something else may answer while it starts."""
    return isinstance(problem, PlaneError) and 400 <= problem.status < 500 and problem.status != 404 and not passing(problem)


def reachable_url(host: str, port: int, plane: Client) -> str:
    """An address that others can use, of the one we listen on: for all interfaces, this machine's on the way to the control plane."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # asks the routing table and sends nothing
                probe.connect((plane.host, plane.port))
                host = str(probe.getsockname()[0])
        except OSError:
            pass
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
