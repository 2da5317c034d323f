"""The agent's HTTP server: requests of the control plane, one task for each connection."""
from __future__ import annotations

import asyncio
import logging
from typing import Any, Awaitable, Callable, Dict, NamedTuple, Optional, Set
from urllib.parse import unquote

from .client import parse_head
from .schema import encode

log = logging.getLogger("agentfield")
_HEAD_LIMIT = 64 << 10
_WORDS = {200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
          413: "Payload Too Large", 422: "Unprocessable Entity", 499: "Client Closed Request", 500: "Internal Server Error"}


class Request(NamedTuple):
    method: str
    path: str
    query: str
    headers: Dict[str, str]  # names in lower case
    body: bytes
    gone: "asyncio.Future[None]"  # done when the connection is lost


class Response(NamedTuple):
    status: int
    body: bytes
    kind: str = "application/json"
    sent: Callable[[bool], None] = lambda delivered: None  # told whether the connection took it


def reply(status: int, body: Any) -> Response:
    return Response(status, encode(body))


def refuse(status: int, message: str) -> Response:
    return reply(status, {"error": message})


Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = refuse(status, message)


class _Connection(asyncio.Protocol):
    """One connection: it reads a request, has it answered, and goes on until either side has had enough."""

    def __init__(self, server: "Server") -> None:
        self.server, self.buffer, self.news = server, bytearray(), asyncio.Event()
        loop = asyncio.get_running_loop()
        self.gone: "asyncio.Future[None]" = loop.create_future()
        self.flushed = asyncio.Event()
        self.flushed.set()
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(0)  # so that flushed means that the kernel has it
        self.task = asyncio.ensure_future(self._talk())
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.news.set()

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        self.news.set()
        self.flushed.set()
        self.server.connections.discard(self)

    def pause_writing(self) -> None:
        self.flushed.clear()

    def resume_writing(self) -> None:
        self.flushed.set()

    async def _talk(self) -> None:
        try:
            while not self.gone.done() and not self.server.closing:
                request = await self._read()
                if request is None:
                    break
                self.busy = True
                await self._answer(await self.server.handler(request))
                self.busy = False
                if request.headers.get("connection", "").lower() == "close":
                    break
        except _Refused as refused:
            await self._answer(refused.response)
        except Exception:
            log.exception("a request could not be answered")
        finally:
            self.transport.close()

    async def _answer(self, response: Response) -> None:
        if not self.gone.done():
            lines = [f"HTTP/1.1 {response.status} {_WORDS.get(response.status, 'Answer')}", f"Content-Type: {response.kind}",
                     f"Content-Length: {len(response.body)}", f"Connection: {'close' if self.server.closing else 'keep-alive'}", "", ""]
            self.transport.write("\r\n".join(lines).encode() + response.body)
            await self.flushed.wait()
        response.sent(not self.gone.done())

    async def _read(self) -> Optional[Request]:
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > _HEAD_LIMIT:
                raise _Refused(400, "the head of the request is too long")
            if not await self._more():
                return None
        end = self.buffer.index(b"\r\n\r\n")
        first, headers = parse_head(bytes(self.buffer[:end]))
        del self.buffer[:end + 4]
        words = first.split(" ")
        if len(words) != 3:
            raise _Refused(400, "this is no HTTP request")
        body = await self._body(headers)
        path, _, query = words[1].partition("?")
        return None if body is None else Request(words[0], unquote(path), query, headers, body, self.gone)

    async def _body(self, headers: Dict[str, str]) -> Optional[bytes]:
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise _Refused(400, "Content-Length is no number")
        if int(length) > self.server.limit:
            raise _Refused(413, f"the input is larger than {self.server.limit} bytes")
        return await self._take(int(length))

    async def _chunks(self) -> Optional[bytes]:
        body = bytearray()
        while True:
            while b"\r\n" not in self.buffer:
                if not await self._more():
                    return None
            line = bytes(self.buffer[:self.buffer.index(b"\r\n")])
            del self.buffer[:len(line) + 2]
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise _Refused(400, "the size of a chunk is no number") from None
            if len(body) + size > self.server.limit:
                raise _Refused(413, f"the input is larger than {self.server.limit} bytes")
            chunk = await self._take(size + 2)  # the line after the last chunk, too; trailers are not used here
            if chunk is None or not size:
                return None if chunk is None else bytes(body)
            body += chunk[:-2]

    async def _take(self, size: int) -> Optional[bytes]:
        while len(self.buffer) < size:
            if not await self._more():
                return None
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def _more(self) -> bool:
        if self.gone.done():
            return False
        self.news.clear()
        await self.news.wait()
        return not self.gone.done() or bool(self.buffer)


class Server:
    """Listens and gives each request to the handler."""

    def __init__(self, handler: Handler, limit: int) -> None:
        self.handler, self.limit, self.closing = handler, limit, False
        self.connections: Set[_Connection] = set()
        self._listening: Optional[asyncio.AbstractServer] = None

    async def start(self, host: str, port: int) -> "tuple[str, int]":
        """Listen; the address that came of it (port 0 is any free one)."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        address = self._listening.sockets[0].getsockname()
        return address[0], address[1]

    def stop_listening(self) -> None:
        """Take no new connections; those at work finish their answer."""
        self.closing = True
        if self._listening is not None:
            self._listening.close()
        for connection in list(self.connections):
            if not connection.busy and not connection.buffer:
                connection.transport.close()

    async def close(self, patience: float = 0.0) -> None:
        """Let the answers at work be written, then end every connection."""
        self.stop_listening()
        tasks = [connection.task for connection in self.connections]
        if tasks and patience:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
