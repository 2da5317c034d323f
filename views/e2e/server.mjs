// Starts what the browser tests need: the real server on a free port with an empty data directory, and a small agent that answers
// calls when a test says so.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const binary = process.env.AGENTFIELD_BIN ?? "bin/agentfield";

/** Starts the server and resolves once it accepts requests. */
export async function startServer() {
  const dir = await mkdtemp(join(tmpdir(), "agentfield-e2e-"));
  const child = spawn(binary, ["server", "--listen", "127.0.0.1:0", "--data-dir", dir], { stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  const base = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${said.join("\n")}`)));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        said.push(line);
        const found = line.match(/listening on (http:\/\/[^\s"]+)/);
        if (found) resolve(found[1]);
      });
    }
  });
  child.removeAllListeners("exit");
  return {
    base,
    said,
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const hard = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(hard);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/**
 * An agent whose functions answer at once, refuse, or wait until the test lets them go:
 * greet → result, fail → 500, hold → waits for release().
 */
export async function startAgent(id) {
  const held = [];
  const server = createServer((request, response) => {
    const answer = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      switch (request.url) {
        case "/status":
          return answer(200, { status: "running", node_id: id });
        case "/health":
          return answer(200, { status: "ok" });
        case "/reasoners/greet":
          return answer(200, { greeting: "Hello, Ada!", tokens: 3 });
        case "/reasoners/fail":
          return answer(500, { error: "the model is overloaded <b>now</b>" });
        case "/reasoners/hold":
          held.push(() => answer(200, { waited: true }));
          return undefined;
        default:
          return answer(200, {});
      }
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    id,
    base: `http://127.0.0.1:${server.address().port}`,
    /** Lets everything that waits come to its end. */
    release() {
      for (const go of held.splice(0)) go();
    },
    stop() {
      this.release();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The API as a program calls it. */
export function client(base) {
  async function call(method, path, body, headers = {}) {
    const response = await fetch(base + path, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`${method} ${path} was answered ${response.status}: ${text.slice(0, 300)}`);
    }
    return JSON.parse(text);
  }
  return {
    register(agent, ...names) {
      return call("POST", "/api/v1/nodes/register", {
        id: agent.id,
        base_url: agent.base,
        reasoners: names.map((name) => ({ id: name, input_schema: { type: "object" } })),
      });
    },
    /** Submits an execution and returns its id. */
    async submit(target, input = {}, headers = {}) {
      return (await call("POST", `/api/v1/execute/async/${target}`, { input }, headers)).execution_id;
    },
    get: (id) => call("GET", `/api/v1/executions/${id}`),
    /** Waits, by long poll, until an execution has ended. */
    async ended(id) {
      for (;;) {
        const e = await call("GET", `/api/v1/executions/${id}?wait=5s`);
        if (["succeeded", "failed", "timeout", "cancelled"].includes(e.status)) return e;
      }
    },
  };
}
