"""HTTP on asyncio streams: a small client that keeps connections open, and the control plane as the agent sees it."""
from __future__ import annotations

import asyncio
import json
import random
import ssl
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlsplit

from .errors import PlaneError
from .schema import encode

SHORT = 15.0  # seconds for a request that is answered at once
_ANSWER_LIMIT = 64 << 20
_KEPT = 64  # idle connections
_Connection = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    status: int
    headers: Dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body as JSON, None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def parse_head(head: bytes) -> "tuple[str, Dict[str, str]]":
    """The first line and the headers of a message."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return first, headers


class Client:
    """HTTP/1.1 to one address. It never sends twice by itself: who asks knows whether that is safe."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else "http://" + url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http or https address")
        self.url, self._tls, self.host, self._prefix = url.rstrip("/"), parts.scheme == "https", parts.hostname, parts.path.rstrip("/")
        self.port = parts.port or (443 if self._tls else 80)
        self._netloc = parts.netloc.rsplit("@", 1)[-1]
        self._idle: List[_Connection] = []
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def request(self, method: str, path: str, headers: Dict[str, str], body: bytes = b"", timeout: float = SHORT) -> Answer:
        """One exchange. Raises OSError when there was none, asyncio.TimeoutError when it took too long."""
        return await asyncio.wait_for(self._exchange(method, path, headers, body), timeout)

    async def _exchange(self, method: str, path: str, headers: Dict[str, str], body: bytes) -> Answer:
        reader, writer = await self.connect()
        keep = False
        try:
            await self.send_head(writer, method, path, headers, body)
            answer, keep = await _read_answer(reader)
            return answer
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as broken:
            raise ConnectionError(f"the answer of {self._netloc} broke off or is no HTTP: {broken}") from broken
        finally:
            if keep and len(self._idle) < _KEPT:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections belong to the loop they were made in
            self._loop, self._idle = loop, []
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        secure = ssl.create_default_context() if self._tls else None
        return await asyncio.open_connection(self.host, self.port, ssl=secure, limit=256 << 10)

    async def send_head(self, writer: asyncio.StreamWriter, method: str, path: str, headers: Dict[str, str], body: bytes = b"") -> None:
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value and "\n" not in value and "\r" not in value]
        writer.write("\r\n".join(lines + ["", ""]).encode("utf-8") + body)
        await writer.drain()

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in idle), return_exceptions=True)


async def read_head(reader: asyncio.StreamReader) -> "tuple[int, Dict[str, str]]":
    """Status and headers of the next answer that is final."""
    while True:
        first, headers = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        status = int(first.split(" ", 2)[1])
        if status >= 200:
            return status, headers


async def _read_answer(reader: asyncio.StreamReader) -> "tuple[Answer, bool]":
    status, headers = await read_head(reader)
    keep = headers.get("connection", "").lower() != "close"
    if status in (204, 304):
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        if length > _ANSWER_LIMIT:
            raise ValueError("it is too large")
        body = await reader.readexactly(length)
    else:
        body, keep = await reader.read(_ANSWER_LIMIT), False
    return Answer(status, headers, body), keep


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if len(body) + size > _ANSWER_LIMIT:
            raise ValueError("it is too large")
        chunk = await reader.readexactly(size + 2) if size else b"\r\n"
        body += chunk[:-2]
        if not size:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body


class Plane:
    """The control plane: requests with the agent's credentials, and what its answers mean."""

    def __init__(self, url: str, key: str, node_id: str) -> None:
        self.http = Client(url)
        self.url, self.key, self.node_id = self.http.url, key, node_id
        self.token = ""  # proves that we registered the node; from the last registration
        self.pause: Callable[[int], float] = backoff  # seconds between two tries

    def headers(self, more: Optional[Dict[str, str]] = None) -> Dict[str, str]:
        own = {"Content-Type": "application/json", "User-Agent": "agentfield-python", "X-Agent-Node-ID": self.node_id,
               "X-Node-Token": self.token, "Authorization": "Bearer " + self.key if self.key else ""}
        return {**own, **(more or {})}

    async def send(self, method: str, path: str, body: Any = None, headers: Optional[Dict[str, str]] = None, timeout: float = SHORT) -> Any:
        """One request; what was answered as JSON. Raises PlaneError for any answer that is not success."""
        payload = body if isinstance(body, bytes) else b"" if body is None else encode(body)
        answer = await self.http.request(method, path, self.headers(headers), payload, timeout)
        if not 200 <= answer.status < 300:
            raise refusal(answer)
        return answer.json()

    async def persist(self, request: Callable[[], Awaitable[Any]], on_first_failure: Callable[[BaseException], None]) -> Any:
        """Repeat a request that may be repeated until it is answered for good."""
        failures = 0
        while True:
            try:
                return await request()
            except (PlaneError, OSError, asyncio.TimeoutError) as problem:
                if not passing(problem):
                    raise
                failures += 1
                if failures == 1:
                    on_first_failure(problem)
                await self.rest(failures, problem)

    async def rest(self, failures: int, problem: Optional[BaseException] = None) -> None:
        """Wait before the next try: as long as the control plane asked for, at least as the backoff says."""
        asked = getattr(problem, "retry_after", None) or 0.0
        await asyncio.sleep(max(self.pause(failures), min(asked, 60.0)))


def backoff(failures: int) -> float:
    """Doubles from a quarter of a second up to ten, less up to a fifth so that many agents do not come at once."""
    return float(min(0.25 * 2 ** min(failures - 1, 10), 10.0) * random.uniform(0.8, 1.0))


def refusal(answer: Answer) -> PlaneError:
    said = answer.json()
    said = said if isinstance(said, dict) else {}
    texts = {key: said[key] for key in ("details", "message", "error", "code", "status") if isinstance(said.get(key), str)}
    message = texts.get("details") or texts.get("message") or texts.get("error") or answer.body[:200].decode("utf-8", "replace").strip()
    wait = answer.headers.get("retry-after", "")
    return PlaneError(answer.status, message or "nothing", texts.get("code", ""), texts.get("status", ""), float(wait) if wait.isdigit() else None)


def passing(problem: BaseException) -> bool:
    """Whether the same request may succeed later without anybody changing anything."""
    if not isinstance(problem, PlaneError):
        return isinstance(problem, (OSError, asyncio.TimeoutError))  # no answer at all
    if problem.status in (429, 503):
        return problem.retry_after is not None or not problem.code  # a refusal with a code and no time is meant to last
    return problem.status in (408, 425, 502, 504)


def execution_path(execution_id: str, rest: str) -> str:
    return f"/api/v1/executions/{quote(execution_id, safe='')}{rest}"
