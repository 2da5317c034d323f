// An agent without any package: it registers its functions, renews its lease, and answers calls as an HTTP server.
import { createServer } from "node:http";

const id = "my-agent";
const plane = process.env.AGENTFIELD_SERVER || "http://localhost:8080";
const [host, port] = (process.env.AGENT_LISTEN_ADDR || "127.0.0.1:0").split(":");
let token = "";

const functions = {
  greet: {
    description: "Greets somebody by name.",
    properties: { name: { type: "string" } },
    async call({ name }, context) {
      await context.note(`${name} came by`);
      return { greeting: `Hello, ${name}!` };
    },
  },
  read_mood: {
    description: "Tells the mood of a message, by its words.",
    properties: { message: { type: "string" } },
    call({ message }) {
      return { mood: /thank/i.test(message) ? "glad" : /again|third time/i.test(message) ? "frustrated" : "neutral" };
    },
  },
};

// ask sends JSON to the control plane and fails on any answer that is not success.
async function ask(method, path, body, headers = {}) {
  const key = process.env.AGENTFIELD_API_KEY;
  const credentials = { "X-Node-Token": token, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(plane + path, {
    method,
    headers: { "Content-Type": "application/json", ...credentials, ...headers },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function answer(request, response) {
  const reply = (status, body) => response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  const named = request.url.match(/^\/reasoners\/(\w+)$/);
  if (request.method === "GET") return reply(200, { status: "running", node_id: id });
  if (!named || !functions[named[1]]) return reply(404, { error: `${id} has no ${request.url}` });
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const speaker = {
      "X-Execution-ID": request.headers["x-execution-id"] || "",
      "X-Execution-Token": request.headers["x-execution-token"] || "",
    };
    const note = (message) => ask("POST", "/api/v1/executions/note", { message, tags: [] }, speaker);
    reply(200, (await functions[named[1]].call(JSON.parse(Buffer.concat(chunks)), { note })) ?? null);
  } catch (problem) {
    reply(problem instanceof SyntaxError ? 400 : 500, { error: problem.message });
  }
}

async function register(url) {
  const reasoners = Object.entries(functions).map(([name, { description, properties }]) => ({
    id: name,
    description,
    input_schema: { type: "object", properties, required: Object.keys(properties) },
  }));
  const known = await ask("POST", "/api/v1/nodes/register", { id, base_url: url, instance_id: String(process.pid), reasoners, skills: [] });
  token = known.node_token || "";
  console.log(`registered ${id} at ${plane} as ${url}`);
}

// stayKnown renews the lease, and registers (again) while the control plane does not know the agent or is away.
async function stayKnown(url) {
  let known = false;
  for (;;) {
    try {
      if (known) await ask("POST", `/api/v1/nodes/${id}/heartbeat`, { status: "ready", instance_id: String(process.pid) });
      else await register(url);
      known = true;
    } catch (problem) {
      if (known) console.error(`not known any more: ${problem.message}`);
      known = false;
    }
    await new Promise((resolve) => setTimeout(resolve, known ? 10_000 : 500));
  }
}

const server = createServer(answer).listen(Number(port), host, () => stayKnown(`http://${host}:${server.address().port}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    await ask("POST", `/api/v1/nodes/${id}/shutdown`, { reason: "shutdown", instance_id: String(process.pid) }).catch(() => {});
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
