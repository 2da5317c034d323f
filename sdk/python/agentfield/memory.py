"""Memory that agents share: values by key, in the scope of a workflow, a session, an actor, or of everybody.

Without a scope, ``get`` looks in the workflow, then the session, the actor, and everywhere; ``set`` and ``delete`` take the first of these
that the execution has.
"""
from __future__ import annotations

import asyncio
import json
from typing import Any, AsyncIterator, Callable, Dict, List, Optional
from urllib.parse import quote, urlencode

from .client import Plane, read_head, refusal, Answer
from .errors import MemoryUnavailable, PlaneError
from .execution import Run, current

_BASE = "/api/v1/memory"


class Memory:
    """The memory of one scope; ``app.memory`` itself has none and finds it."""

    def __init__(self, plane: Callable[[], Plane], scope: Optional[str] = None) -> None:
        self._plane, self._scope = plane, scope

    @property
    def workflow(self) -> "Memory":
        return Memory(self._plane, "workflow")

    @property
    def session(self) -> "Memory":
        return Memory(self._plane, "session")

    @property
    def actor(self) -> "Memory":
        return Memory(self._plane, "actor")

    @property
    def global_scope(self) -> "Memory":
        return Memory(self._plane, "global")

    async def get(self, key: str, default: Any = None, *, scope: Optional[str] = None) -> Any:
        """The value of a key, or the default when there is none."""
        try:
            return (await self._send("POST", "/get", self._named(scope, key=key)))["data"]
        except PlaneError as problem:
            if problem.status == 404:
                return default
            raise

    async def set(self, key: str, data: Any, *, scope: Optional[str] = None) -> None:
        """Store a value, anything that can be written as JSON except None."""
        await self._send("POST", "/set", self._named(scope, key=key, data=data))

    async def exists(self, key: str, *, scope: Optional[str] = None) -> bool:
        missing = object()
        return await self.get(key, missing, scope=scope) is not missing

    async def delete(self, key: str, *, scope: Optional[str] = None) -> None:
        """Remove a key; nothing happens when there is none."""
        await self._send("POST", "/delete", self._named(scope, key=key))

    async def list(self, *, scope: Optional[str] = None) -> List[Dict[str, Any]]:
        """The entries of a scope: key, data, scope, scope_id, created_at, updated_at."""
        entries: List[Dict[str, Any]] = []
        after = ""
        while True:  # page by page; a server that knows no pages sends the same again
            page = await self._send("GET", "/list" + self._query(scope=scope or self._scope, after=after))
            fresh = [entry for entry in page if entry["key"] > after]
            if not fresh:
                return entries
            entries += fresh
            after = max(entry["key"] for entry in fresh)

    async def set_vector(self, key: str, embedding: List[float], metadata: Optional[Dict[str, Any]] = None, *, scope: Optional[str] = None) -> None:
        await self._send("POST", "/vector", self._named(scope, key=key, embedding=list(embedding), metadata=metadata))

    async def get_vector(self, key: str, *, scope: Optional[str] = None) -> Optional[Dict[str, Any]]:
        try:
            found: Dict[str, Any] = await self._send("GET", f"/vector/{quote(key, safe='')}{self._query(scope=scope or self._scope)}")
            return found
        except PlaneError as problem:
            if problem.status == 404:
                return None
            raise

    async def delete_vector(self, key: str, *, scope: Optional[str] = None) -> None:
        await self._send("DELETE", f"/vector/{quote(key, safe='')}{self._query(scope=scope or self._scope)}")

    async def search(self, embedding: List[float], top_k: int = 10, *, threshold: Optional[float] = None,
                     filters: Optional[Dict[str, Any]] = None, scope: Optional[str] = None) -> List[Dict[str, Any]]:
        """The nearest vectors, best first: key, score, metadata."""
        return list(await self._send("POST", "/vector/search", self._named(
            scope, query_embedding=list(embedding), top_k=top_k, threshold=threshold, filters=filters)))

    async def history(self, patterns: str = "", *, since: str = "", limit: int = 100, scope: Optional[str] = None) -> List[Dict[str, Any]]:
        """The last changes of keys that fit the patterns (comma-separated, with * and ?), oldest first."""
        return list(await self._send("GET", "/events/history" + self._query(
            scope=scope or self._scope, patterns=patterns, since=since, limit=str(limit))))

    async def changes(self, patterns: str = "", *, scope: Optional[str] = None) -> AsyncIterator[Dict[str, Any]]:
        """Changes as they happen, until the connection ends: ``async for event in app.memory.changes("preferences.*")``."""
        plane = self._plane()
        reader, writer = await plane.http.connect()
        try:
            path = _BASE + "/events/sse" + self._query(scope=scope or self._scope, patterns=patterns)
            await plane.http.send_head(writer, "GET", path, plane.headers(_from(current.get())))
            status, headers = await asyncio.wait_for(read_head(reader), 30)
            if status != 200:
                raise _explain(refusal(Answer(status, headers, await reader.read(64 << 10))))
            while True:
                line = await reader.readline()
                if not line:
                    return
                if line.startswith(b"data:"):  # the sizes of chunks stand on lines of their own
                    yield json.loads(line[5:])
        finally:
            writer.close()

    def _named(self, scope: Optional[str], **body: Any) -> Dict[str, Any]:
        return {key: value for key, value in {**body, "scope": scope or self._scope}.items() if value is not None or key == "data"}

    def _query(self, **words: Optional[str]) -> str:
        given = {key: value for key, value in words.items() if value}
        return "?" + urlencode(given) if given else ""

    async def _send(self, method: str, path: str, body: Any = None) -> Any:
        plane = self._plane()

        async def request() -> Any:
            return await plane.send(method, _BASE + path, body, _from(current.get()))

        try:  # every one of these may be sent twice
            return await plane.persist(request, lambda problem: None)
        except PlaneError as problem:
            raise _explain(problem) from problem


def _from(run: Optional[Run]) -> Dict[str, str]:
    return run.headers() if run is not None else {}


def _explain(problem: PlaneError) -> Exception:
    """A server without this part of the memory does not know the path, or says that it has none."""
    if problem.status == 501 or problem.status == 404 and problem.code == "endpoint_not_found":
        return MemoryUnavailable("memory is not available on this server: it does not have the endpoint that was asked for")
    return problem
