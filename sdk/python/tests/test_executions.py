"""What becomes of calls: answers, crashes of the control plane, retries, cancels, limits and the stop."""
from __future__ import annotations

import asyncio
import os
import threading
import typing
import unittest
from unittest import mock

from agentfield import Agent, AgentRouter, CallError, FunctionError, PlaneError
from agentfield.client import Client
from agentfield.server import reply

from .gate import Gate
from .plane import Plane, agent_for, started


class Case(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.plane = await Plane().start()
        self.addAsyncCleanup(self.plane.crash)
        self.gate = Gate()

    async def agent(self, **options: typing.Any) -> Agent:
        """An agent with a function that waits at the gate and says its name, and with what the test adds before `started`."""
        agent = agent_for(self.plane, **options)

        @agent.reasoner()
        async def work(name: str = "", fail: bool = False) -> dict:
            await self.gate()
            if fail:
                raise FunctionError("no more", status=503, details={"after": 7})
            return {"name": name}

        self.addAsyncCleanup(agent.stop)
        return await started(self.plane, agent)

    async def begun(self, target: str, body: typing.Any, execution_id: str, attempt: int = 1) -> "asyncio.Task[typing.Any]":
        self.gate.begun.clear()
        task = asyncio.ensure_future(self.plane.dispatch(target, body, execution_id, attempt))
        await asyncio.wait_for(self.gate.begun.wait(), 30)
        return task


class Answers(Case):
    async def test_registration(self) -> None:
        agent = agent_for(self.plane, "shop", version="1.2.3", tags=["retail"], max_concurrency=3, api_key="key-1")

        @agent.reasoner(tags=["money"], idempotent=True)
        async def buy(item: str) -> str:
            """Buys things."""
            return item

        @agent.skill("count")
        def counting() -> int:
            return 1

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        _, _, headers, body = self.plane.seen("POST", "/api/v1/nodes/register")[0]
        self.assertEqual(headers["authorization"], "Bearer key-1")
        self.assertEqual((body["id"], body["base_url"], body["version"]), ("shop", agent.url, "1.2.3"))
        self.assertEqual(body["metadata"]["custom"], {"descriptions": {"buy": "Buys things."}, "max_concurrency": 3})
        self.assertEqual(body["reasoners"], [{
            "id": "buy", "description": "Buys things.", "tags": ["money"], "idempotent": True, "output_schema": {"type": "string"},
            "input_schema": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}}])
        self.assertEqual([skill["id"] for skill in body["skills"]], ["count"])
        self.assertEqual((await self.plane.dispatch("shop.count", {}, "exec_1")).body, b"1")

    async def test_results_and_failures(self) -> None:
        agent = agent_for(self.plane)
        results: typing.Dict[str, typing.Any] = {"dict": {"a": 1}, "list": [1], "text": "x", "null": None}

        @agent.reasoner()
        async def give(what: str) -> typing.Any:
            return results[what]

        @agent.reasoner()
        def wrong(kind: str) -> typing.Any:
            if kind == "own":
                raise FunctionError("not today", status=409, details={"day": "sunday"})
            if kind == "exit":
                raise SystemExit(3)
            return {"key": 1}["other"] if kind == "bug" else object()

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        with self.assertLogs("agentfield", "ERROR"):
            for function, given, status, body in (
                    ("give", {"what": "dict"}, 200, {"a": 1}), ("give", {"what": "list"}, 200, [1]), ("give", {"what": "text"}, 200, "x"),
                    ("give", {"what": "null"}, 200, None), ("give", {}, 422, {"error": "what: is missing", "error_details": None}),
                    ("wrong", {"kind": "own"}, 409, {"error": "not today", "error_details": {"day": "sunday"}}),
                    ("wrong", {"kind": "bug"}, 500, {"error": "KeyError: 'other'", "error_details": {"type": "KeyError"}}),
                    ("wrong", {"kind": "exit"}, 500, {"error": "SystemExit: 3", "error_details": {"type": "SystemExit"}}),
                    ("wrong", {"kind": "x"}, 500, {"error": "the result cannot be written as JSON: a object cannot be written as JSON", "error_details": None}),
                    ("give", b"{", 400, {"error": "the input is not JSON"}), ("absent", {}, 404, {"error": "tester has no reasoner 'absent'"})):
                with self.subTest(function=function, given=given):
                    answer = await self.plane.dispatch("tester." + function, given)
                    self.assertEqual((answer.status, answer.json()), (status, body))

    async def test_the_whole_way_of_a_call(self) -> None:
        agent, seen = agent_for(self.plane), []
        router = AgentRouter(prefix="support")
        with self.assertRaises(AttributeError):
            router.call

        @router.reasoner()
        async def leaf(text: str) -> str:
            seen.append(router.execution)
            await router.note("arrived", ["leaf"])
            return text.upper()

        @agent.reasoner()
        async def root(text: str) -> dict:
            agent.note("asking")  # not awaited
            agent.progress(0.5, "half")
            return {"said": await agent.call("tester.support_leaf", text=text), "again": await router.call("tester.support_leaf", {"text": "b"})}

        agent.include_router(router)
        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        answer = await self.plane.dispatch("tester.root", {"text": "a"}, "exec_root", X_Session_ID="s1", X_Actor_ID="u1")
        self.assertEqual(answer.json(), {"said": "A", "again": "B"})
        headers = self.plane.executions["exec_1"]["headers"]
        self.assertEqual([headers[name] for name in ("x-parent-execution-id", "x-run-id", "x-session-id", "x-actor-id", "x-caller-agent-id")],
                         ["exec_root", "run_1", "s1", "u1", "tester"])
        self.assertEqual(seen[0].function, "support_leaf")
        notes = [(body["message"], headers["x-execution-id"], headers["x-execution-token"])
                 for _, _, headers, body in self.plane.seen("POST", "/api/v1/executions/note")]
        self.assertEqual(notes, [("asking", "exec_root", "1.token"), ("arrived", "exec_1", "1.token"), ("arrived", "exec_2", "1.token")])
        self.assertEqual(self.plane.seen("POST", "/api/v1/executions/exec_root/progress")[0][3], {"progress": 0.5, "message": "half"})

    async def test_a_function_that_is_not_async(self) -> None:
        agent = agent_for(self.plane)

        @agent.skill()
        def double(n: int) -> int:
            agent.note(f"in {threading.current_thread().name.split('_')[0]} for {agent.execution.id}")
            return n if n > 9 else agent.wait(agent.call("tester.double", n=n * 10)) + 1

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        self.assertEqual((await self.plane.dispatch("tester.double", {"n": 2}, "exec_a")).json(), 21)
        self.assertEqual(self.plane.executions["exec_1"]["headers"]["x-parent-execution-id"], "exec_a")
        notes = [body["message"] for _, _, _, body in self.plane.seen("POST", "/api/v1/executions/note")]
        self.assertEqual(sorted(notes), ["in agentfield for exec_1", "in agentfield for exec_a"])

    async def test_a_child_that_fails(self) -> None:
        agent = await self.agent()
        self.gate.opened.set()
        with self.assertRaises(CallError) as failed:
            await agent.call("tester.work", fail=True)
        self.assertEqual((failed.exception.execution_id, failed.exception.status, failed.exception.error), ("exec_1", "failed", "no more"))
        with self.assertRaises(CallError) as refused:
            await agent.call("nobody.work")
        self.assertEqual((refused.exception.code, refused.exception.http_status, refused.exception.execution_id), ("target_not_found", 404, ""))

    async def test_health_status_and_metrics(self) -> None:
        agent = await self.agent()
        self.gate.opened.set()
        await self.plane.dispatch("tester.work", {}, "exec_1")
        client = Client(agent.url)
        self.assertEqual((await client.request("GET", "/health", {})).json(), {"status": "ok", "node_id": "tester"})
        self.assertEqual((await client.request("GET", "/status", {})).json()["status"], "running")
        metrics = (await client.request("GET", "/metrics", {})).body.decode()
        self.assertIn('agent_executions_succeeded_total{node="tester"} 1', metrics)
        self.assertEqual((await client.request("GET", "/nothing", {})).status, 404)
        await client.close()

    async def test_calls_of_strangers_are_refused_when_a_token_is_set(self) -> None:
        with mock.patch.dict(os.environ, {"AGENTFIELD_AUTHORIZATION_INTERNAL_TOKEN": "secret"}):
            await self.agent()
        self.gate.opened.set()
        self.assertEqual((await self.plane.dispatch("tester.work", {})).status, 401)
        self.assertEqual((await self.plane.dispatch("tester.work", {}, Authorization="Bearer secret")).status, 200)

    async def test_a_large_input_is_refused_and_a_large_result_arrives(self) -> None:
        agent = agent_for(self.plane, max_input_bytes=1000)

        @agent.reasoner()
        async def grow(n: int) -> str:
            return "x" * n

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        self.assertEqual((await self.plane.dispatch("tester.grow", b"[" + b" " * 1000 + b"]")).status, 413)
        self.assertEqual(len((await self.plane.dispatch("tester.grow", {"n": 9 << 20})).body), (9 << 20) + 2)


class Losses(Case):
    async def test_an_outcome_whose_connection_is_lost_is_reported_until_it_arrives(self) -> None:
        await self.agent()
        answer = await self.begun("tester.work", {"name": "a"}, "exec_1")
        await self.plane.crash()
        self.assertTrue(answer.cancelled() or answer.exception())
        self.gate.opened.set()
        await self.plane.start()
        refusals = iter([reply(503, {"error": "starting"}), reply(500, {"error": "oops"})])
        self.plane.intercept = lambda request: next(refusals, None) if request.path.endswith("/status") and request.method == "POST" else None
        done = await self.plane.until(lambda: self.plane.executions.get("exec_1", {}).get("status") == "succeeded" and self.plane.executions["exec_1"])
        self.assertEqual(done["result"], {"name": "a"})
        self.assertEqual(len(self.plane.seen("POST", "/api/v1/executions/exec_1/status")), 3)
        self.assertEqual(self.gate.calls, 1)

    async def test_a_redelivery_joins_what_still_runs(self) -> None:
        await self.agent()
        await self.begun("tester.work", {"name": "a"}, "exec_1")
        await self.plane.crash()
        await self.plane.start()
        again = asyncio.ensure_future(self.plane.dispatch("tester.work", {"name": "a"}, "exec_1", 2))
        await asyncio.sleep(0)
        self.gate.opened.set()
        self.assertEqual((await again).json(), {"name": "a"})
        self.assertEqual((await self.plane.dispatch("tester.work", {"name": "a"}, "exec_1", 3)).json(), {"name": "a"})
        self.assertEqual(self.gate.calls, 1)

    async def test_a_failure_that_was_seen_is_run_again(self) -> None:
        await self.agent()
        self.gate.opened.set()
        for attempt in (1, 2):
            answer = await self.plane.dispatch("tester.work", {"fail": True}, "exec_1", attempt)
            self.assertEqual((answer.status, answer.json()["error_details"]), (503, {"after": 7}))
        self.assertEqual(self.gate.calls, 2)

    async def test_a_call_waits_for_the_control_plane_and_is_sent_under_one_key(self) -> None:
        agent = agent_for(self.plane)

        @agent.reasoner()
        async def leaf() -> int:
            return 1

        @agent.reasoner()
        async def root() -> typing.List[int]:
            return [await agent.call("tester.leaf"), await agent.call("tester.leaf")]

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        refusals = iter([reply(503, {"error": "queue full", "code": ""}), reply(502, {})])
        self.plane.intercept = lambda request: next(refusals, None) if "/execute/" in request.path else None
        with self.assertLogs("agentfield", "WARNING"):
            self.assertEqual((await self.plane.dispatch("tester.root", {}, "exec_root")).json(), [1, 1])
        keys = [headers["idempotency-key"] for _, _, headers, _ in self.plane.seen("POST", "/api/v1/execute/async/")]
        self.assertEqual([keys.index(key) for key in keys], [0, 0, 0, 3])  # one call three times, then another one
        self.assertEqual((await self.plane.dispatch("tester.root", {}, "exec_other")).status, 200)
        self.assertEqual(len(set(h["idempotency-key"] for _, _, h, _ in self.plane.seen("POST", "/api/v1/execute/async/"))), 4)

    async def test_the_agent_registers_again_when_it_is_forgotten(self) -> None:
        await self.agent(heartbeat_interval=0.01)
        self.plane.nodes.clear()
        with self.assertLogs("agentfield", "WARNING"):
            await self.plane.until(lambda: "tester" in self.plane.nodes)

    async def test_a_registration_that_is_refused_ends_the_agent(self) -> None:
        self.plane.intercept = lambda request: reply(400, {"error": "bad", "details": "the id is taken", "code": "invalid_registration"})
        agent = agent_for(self.plane)
        with self.assertRaises(PlaneError) as refused:
            await asyncio.wait_for(agent._serve(), 30)
        self.assertIn("the id is taken", str(refused.exception))

    async def test_a_note_that_is_not_taken_does_no_harm(self) -> None:
        agent = agent_for(self.plane)

        @agent.reasoner()
        async def noting() -> str:
            await agent.note("lost")
            return "done"

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        self.plane.intercept = lambda request: reply(500, {}) if request.path.endswith("/note") else None
        with self.assertLogs("agentfield", "WARNING"):
            self.assertEqual((await self.plane.dispatch("tester.noting", {}, "exec_1")).json(), "done")


class Limits(Case):
    async def test_cancel(self) -> None:
        agent = await self.agent()
        answer = await self.begun("tester.work", {}, "exec_1")
        client = Client(agent.url)
        said = await client.request("POST", "/_internal/executions/exec_1/cancel", {}, b'{"reason":"too late"}')
        self.assertEqual(said.json(), {"cancelled": True, "execution_id": "exec_1"})
        self.assertEqual(((await answer).status, (await answer).json()["error"]), (499, "cancelled by the control plane: too late"))
        said = await client.request("POST", "/_internal/executions/exec_1/cancel", {})
        self.assertEqual(said.json()["reason"], "execution_not_active")
        await client.close()

    async def test_a_function_may_clean_up_after_a_cancel(self) -> None:
        agent, left = agent_for(self.plane), []

        @agent.reasoner()
        async def careful() -> str:
            try:
                await self.gate()
            except asyncio.CancelledError:
                left.append("tidied")
                raise
            return "never"

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        answer = await self.begun("tester.careful", {}, "exec_1")
        await Client(agent.url).request("POST", "/_internal/executions/exec_1/cancel", {})
        self.assertEqual((await answer).status, 499)
        self.assertEqual(left, ["tidied"])

    async def test_the_limit_holds_and_a_waiting_function_lends_its_place(self) -> None:
        agent, most = agent_for(self.plane, max_concurrency=2), [0, 0]

        @agent.reasoner()
        async def leaf() -> int:
            most[0] += 1
            most[1] = max(most)
            await asyncio.sleep(0)
            most[0] -= 1
            return 1

        @agent.reasoner()
        async def root() -> int:
            return sum(await asyncio.gather(*(agent.call("tester.leaf") for _ in range(5))))

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        answers = await asyncio.gather(*(self.plane.dispatch("tester.root", {}, f"exec_r{i}") for i in range(6)))
        self.assertEqual([answer.json() for answer in answers], [5] * 6)
        self.assertEqual(most, [0, 2])

    async def test_a_cancel_does_not_wait_for_a_place(self) -> None:
        agent = agent_for(self.plane, max_concurrency=1)

        @agent.reasoner()
        async def leaf() -> None:
            await self.gate()

        @agent.reasoner()
        async def root() -> None:
            await agent.call("tester.leaf")

        self.addAsyncCleanup(agent.stop)
        await started(self.plane, agent)
        answer = await self.begun("tester.root", {}, "exec_root")  # the place is the leaf's now
        client = Client(agent.url)
        await client.request("POST", "/_internal/executions/exec_root/cancel", {})
        self.assertEqual((await answer).status, 499)
        self.gate.opened.set()
        await client.close()

    async def test_a_stop_lets_work_end_and_takes_no_more(self) -> None:
        agent = await self.agent()
        answer = await self.begun("tester.work", {"name": "last"}, "exec_1")
        stopping = asyncio.ensure_future(agent.stop())
        await self.plane.until(lambda: self.plane.seen("POST", "/api/v1/nodes/tester/shutdown"))
        self.gate.opened.set()
        self.assertEqual((await answer).json(), {"name": "last"})
        await stopping
        with self.assertRaises(OSError):
            await Client(agent.url).request("GET", "/health", {})

    async def test_a_stop_that_has_run_out_of_patience_cancels(self) -> None:
        agent = await self.agent(stop_timeout=0.01)
        answer = await self.begun("tester.work", {}, "exec_1")
        await agent.stop()
        self.assertEqual(((await answer).status, (await answer).json()["error"]), (503, "the agent is stopping"))

    async def test_what_is_said_outside_of_executions_is_dropped(self) -> None:
        agent = Agent("alone")
        agent.note("nobody hears this")
        await agent.note("nor this")
        self.assertIsNone(agent.execution)

    def test_settings_come_from_the_environment(self) -> None:
        with mock.patch.dict(os.environ, {"AGENT_NODE_ID": "env", "AGENTFIELD_SERVER": "http://plane:1/", "AGENTFIELD_API_KEY": "k"}):
            agent = Agent()
        self.assertEqual((agent.node_id, agent.plane.url, agent.plane.key), ("env", "http://plane:1", "k"))
        for bad in ("", "a.b", "a/b", "x" * 256):
            with self.subTest(bad), self.assertRaises(ValueError):
                Agent(bad)
        with self.assertRaises(ValueError):
            Agent("a", "ftp://x")
