"""What functions ask of others: people, the memory, and a language model."""
from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import typing
import unittest
from unittest import mock
from urllib.parse import parse_qs

from agentfield import Agent, AIError, MemoryUnavailable, PauseError
from agentfield.client import Client
from agentfield.schema import schema_of
from agentfield.server import Request, Response, Server, reply

from .plane import Plane, agent_for, started


class Pauses(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.plane = await Plane().start()
        self.addAsyncCleanup(self.plane.crash)
        self.agent = agent_for(self.plane, "claims")

        @self.agent.reasoner()
        async def decide(claim: str = "", amount: int = 0) -> dict:
            result = await self.agent.pause(claim or None, expires_in_hours=24, title="Pay?", payload={"amount": amount})
            return {"decision": result.decision, "feedback": result.feedback, "approved": result.approved, "response": result.response}

        self.addAsyncCleanup(self.agent.stop)
        await started(self.plane, self.agent)

    def begin(self, given: typing.Any) -> None:
        """Dispatch over a connection that will not live to see the outcome."""
        self.lost = asyncio.ensure_future(self.plane.dispatch("claims.decide", given, "exec_1"))
        self.addAsyncCleanup(asyncio.wait, [self.lost])
        self.lost.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def asked(self, n: int = 1) -> typing.Any:
        return (await self.plane.until(lambda: len(self.plane.approvals) >= n and list(self.plane.approvals.items())))[n - 1]

    async def test_a_decision_comes_back(self) -> None:
        answer = asyncio.ensure_future(self.plane.dispatch("claims.decide", {"claim": "claim-12345", "amount": 9}, "exec_1"))
        name, approval = await self.asked()
        self.assertEqual(name, "claim-12345")
        self.assertEqual({key: approval["request"][key] for key in ("expires_in_hours", "title", "payload")},
                         {"expires_in_hours": 24, "title": "Pay?", "payload": {"amount": 9}})
        self.assertEqual(approval["request"]["callback_url"], self.agent.url + "/webhooks/approval")
        self.plane.decide(name, "approved", "Claim verified against policy", response={"limit": 5})
        self.assertEqual((await answer).json(), {"decision": "approved", "feedback": "Claim verified against policy", "approved": True, "response": {"limit": 5}})

    async def test_it_survives_the_control_plane(self) -> None:
        self.begin({})
        name, _ = await self.asked()
        await self.plane.crash()
        await self.plane.start()
        self.plane.decide(name, "rejected", "no")
        done = await self.plane.until(lambda: self.plane.executions["exec_1"].get("result"))
        self.assertEqual((done["decision"], done["approved"]), ("rejected", False))

    async def test_the_callback_makes_it_look(self) -> None:
        answer = asyncio.ensure_future(self.plane.dispatch("claims.decide", {}, "exec_1"))
        name, approval = await self.asked()
        await self.plane.until(lambda: [r for r in self.plane.requests if "approval-status" in r[1]])
        # The plane does not end the question that it holds: only the callback can.
        approval["answer"] = {"status": "approved"}
        word = b'{"execution_id":"exec_1","approval_request_id":"%s"}' % name.encode()
        self.assertEqual(await self.told(word), {"status": "received", "resolved": True})
        self.assertTrue((await answer).json()["approved"])
        self.assertFalse((await self.told(b'{"execution_id":"exec_9"}'))["resolved"])

    async def told(self, word: bytes) -> typing.Any:
        client = Client(self.agent.url)
        try:
            return (await client.request("POST", "/webhooks/approval", {}, word)).json()
        finally:
            await client.close()

    async def test_a_proxy_that_holds_no_questions(self) -> None:
        said = iter([reply(200, {"status": "pending"}), reply(504, {}), reply(200, {"status": "expired"})])
        self.plane.intercept = lambda request: next(said) if request.path.endswith("approval-status") else None
        with self.assertLogs("agentfield", "WARNING"):
            answer = await self.plane.dispatch("claims.decide", {}, "exec_1")
        self.assertEqual(answer.json()["decision"], "expired")

    async def test_a_repeated_execution_finds_its_request(self) -> None:
        self.begin({"amount": 1})
        name, _ = await self.asked()
        self.agent.stop_timeout = 0.0
        await self.agent.stop()
        self.plane.nodes.clear()
        self.plane.decide(name, "approved", "once is enough")
        await started(self.plane, self.agent)  # with nothing in its memory
        answer = await self.plane.dispatch("claims.decide", {"amount": 1}, "exec_1", 2)
        self.assertEqual(answer.json()["feedback"], "once is enough")
        self.assertEqual(len(self.plane.seen("POST", "/api/v1/executions/exec_1/request-approval")), 1)

    async def test_what_cannot_be_asked(self) -> None:
        with self.assertRaises(PauseError):
            await self.agent.pause("outside")
        self.plane.intercept = lambda request: reply(400, {"details": "the form is wrong", "code": "invalid_parameter"}) if request.path.endswith(
            "request-approval") else None
        with self.assertLogs("agentfield", "ERROR"):
            answer = await self.plane.dispatch("claims.decide", {}, "exec_1")
        self.assertEqual(answer.json()["error"], "people cannot be asked: the form is wrong")


class Memories(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.plane = await Plane().start()
        self.addAsyncCleanup(self.plane.crash)
        self.agent = agent_for(self.plane)
        self.agent.plane.pause = lambda failures: 0.0

    async def test_values(self) -> None:
        memory = self.agent.memory
        self.assertIsNone(await memory.get("customer_history"))
        self.assertEqual(await memory.get("customer_history", []), [])
        await memory.set("ticket_status", "triaged")
        await memory.session.set("ticket_status", {"mine": True})
        self.assertEqual(await memory.get("ticket_status"), "triaged")
        self.assertEqual(await memory.session.get("ticket_status"), {"mine": True})
        self.assertEqual(await memory.get("ticket_status", scope="session"), {"mine": True})
        await memory.delete("ticket_status")
        self.assertFalse(await memory.exists("ticket_status"))
        self.assertTrue(await memory.session.exists("ticket_status"))

    async def test_the_scopes_of_an_execution_go_along(self) -> None:
        @self.agent.reasoner()
        async def remember() -> None:
            await self.agent.memory.set("a", 1)

        self.addAsyncCleanup(self.agent.stop)
        await started(self.plane, self.agent)
        await self.plane.dispatch("tester.remember", {}, "exec_1", X_Session_ID="s1", X_Workflow_ID="w1", X_Actor_ID="u1")
        headers = self.plane.seen("POST", "/api/v1/memory/set")[0][2]
        self.assertEqual([headers[name] for name in ("x-execution-id", "x-execution-token", "x-session-id", "x-workflow-id", "x-actor-id", "x-agent-node-id")],
                         ["exec_1", "1.token", "s1", "w1", "u1", "tester"])

    async def test_a_list_is_read_page_by_page(self) -> None:
        keys = ["a", "b", "ü"]
        for size in (2, 9):
            def page(request: Request) -> Response:
                after = parse_qs(request.query).get("after", [""])[0] if size == 2 else ""
                return reply(200, [{"key": key, "data": 1} for key in keys if key > after][:size])

            self.plane.intercept = page
            self.assertEqual([entry["key"] for entry in await self.agent.memory.session.list()], keys)

    async def test_vectors_history_and_changes(self) -> None:
        def answer(request: Request) -> Response:
            asked.append((request.method, request.path, request.query))
            if request.path.endswith("/sse"):
                return Response(200, b': hello\n\nevent: message\ndata: {"key":"a.b","action":"set"}\n\n', "text/event-stream")
            return reply(200, {"key": "k", "embedding": [1.0]} if request.method == "GET" and "/vector/" in request.path else [{"key": "k"}])

        asked: typing.List[typing.Any] = []
        self.plane.intercept = answer
        memory = self.agent.memory.global_scope
        await memory.set_vector("k", [1.0], {"a": 1})
        self.assertEqual((await memory.get_vector("a/b") or {})["embedding"], [1.0])
        self.assertEqual(await memory.search([1.0], 3), [{"key": "k"}])
        await memory.delete_vector("k")
        self.assertEqual(await memory.history("a.*", limit=5), [{"key": "k"}])
        async for event in memory.changes("a.*"):
            self.assertEqual(event, {"key": "a.b", "action": "set"})
            break
        self.assertEqual(asked, [
            ("POST", "/api/v1/memory/vector", ""), ("GET", "/api/v1/memory/vector/a/b", "scope=global"), ("POST", "/api/v1/memory/vector/search", ""),
            ("DELETE", "/api/v1/memory/vector/k", "scope=global"), ("GET", "/api/v1/memory/events/history", "scope=global&patterns=a.%2A&limit=5"),
            ("GET", "/api/v1/memory/events/sse", "scope=global&patterns=a.%2A")])

    async def test_a_server_without_memory_is_named(self) -> None:
        for answer in (reply(404, {"error": "endpoint_not_found", "code": "endpoint_not_found"}), reply(501, {"error": "no"})):
            self.plane.intercept = lambda request: answer
            with self.assertRaises(MemoryUnavailable) as caught:
                await self.agent.memory.get("a")
            self.assertIn("memory is not available on this server", str(caught.exception))


@dataclasses.dataclass
class Decision:
    priority: typing.Literal["low", "high"]
    confidence: float
    reasons: typing.List[str]
    escalate: bool = False


def agent_with(**environment: str) -> Agent:
    names = ("AGENTFIELD_AI", "AGENTFIELD_AI_URL", "AGENTFIELD_AI_KEY", "AGENTFIELD_AI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY")
    with mock.patch.dict(os.environ, {**{name: "" for name in names}, **environment}):
        return Agent("thinker")


class Models(unittest.IsolatedAsyncioTestCase):
    async def chat(self, *answers: typing.Any) -> Agent:
        """An agent whose model gives these answers, the last one again and again."""
        self.asked: typing.List[Request] = []

        async def handle(request: Request) -> Response:
            self.asked.append(request)
            answer = answers[min(len(self.asked), len(answers)) - 1]
            return answer if isinstance(answer, Response) else reply(200, {"choices": [{"message": {"content": answer}}]})

        server = Server(handle, 1 << 20)
        self.addAsyncCleanup(server.close)
        _, port = await server.start("127.0.0.1", 0)
        return agent_with(AGENTFIELD_AI_URL=f"http://127.0.0.1:{port}/v1", AGENTFIELD_AI_KEY="key", AGENTFIELD_AI_MODEL="small")

    async def test_words(self) -> None:
        agent = await self.chat("Hello!")
        self.assertEqual(await agent.ai(system="be brief", user="hi", temperature=0), "Hello!")
        sent = self.asked[0]
        self.assertEqual((sent.path, sent.headers["authorization"]), ("/v1/chat/completions", "Bearer key"))
        self.assertEqual(json.loads(sent.body), {
            "model": "small", "temperature": 0, "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]})

    async def test_a_schema_and_an_answer_that_does_not_fit_at_first(self) -> None:
        good = '```json\n{"priority": "high", "confidence": 1, "reasons": ["a"]}\n```'
        agent = await self.chat('{"priority": "urgent"}', good)
        self.assertEqual(await agent.ai("decide", schema=Decision), Decision("high", 1.0, ["a"]))
        self.assertIn(b"That does not fit: priority", self.asked[1].body)
        self.assertIn(b"json_schema", self.asked[0].body)

    async def test_a_server_that_knows_no_schemas(self) -> None:
        agent = await self.chat(reply(400, {"error": {"message": "response_format?"}}), '{"priority": "low", "confidence": 0.5, "reasons": []}')
        with mock.patch("agentfield.ai.asyncio.sleep", new=mock.AsyncMock()):
            self.assertEqual((await agent.ai("decide", schema=Decision)).priority, "low")
        self.assertNotIn(b"response_format", self.asked[1].body)

    async def test_what_goes_wrong(self) -> None:
        agent = await self.chat(reply(429, {}), reply(401, {"error": {"message": "wrong key"}}))
        with mock.patch("agentfield.ai.asyncio.sleep", new=mock.AsyncMock()), self.assertRaisesRegex(AIError, "401 wrong key"):
            await agent.ai("hi")
        agent = await self.chat("nonsense")
        with self.assertRaisesRegex(AIError, "does not fit"):
            await agent.ai("hi", schema=Decision)
        with self.assertRaisesRegex(AIError, "no model is configured"):
            await agent_with().ai("hi")
        with self.assertRaises(ValueError):
            agent_with(AGENTFIELD_AI="magic")

    async def test_the_offline_model_fills_any_schema_and_gives_the_same_answer_again(self) -> None:
        agent = agent_with(AGENTFIELD_AI="fake")
        said = await agent.ai(system="You are an expert", user="u", schema=Decision)
        self.assertIsInstance(said, Decision)
        self.assertEqual(said, await agent.ai(system="You are an expert", user="u", schema=Decision))
        self.assertTrue({(await agent.ai(str(i), schema=Decision)).priority for i in range(20)} == {"low", "high"})
        self.assertIn("offline model", await agent.ai("hi"))
        tight = {"type": "object", "properties": {
            "n": {"type": "integer", "minimum": 3, "maximum": 4}, "x": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "s": {"type": "string", "minLength": 30, "maxLength": 30}, "t": {"$ref": "#/$defs/T"}}, "$defs": {"T": {"type": ["null", "boolean"]}}}
        for i in range(50):
            got = await agent.ai(str(i), schema=tight)
            self.assertTrue(got["n"] in (3, 4) and 0 < got["x"] <= 1 and len(got["s"]) == 30 and isinstance(got["t"], bool), got)
        self.assertEqual(schema_of(Decision)["required"], ["priority", "confidence", "reasons"])
