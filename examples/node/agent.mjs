// An agent in 25 lines of Node, without a package: it registers, answers calls, and ends those that are cancelled.
import { createServer } from "node:http";
const plane = process.env.AGENTFIELD_SERVER ?? "http://localhost:8080";
const running = new Map(); // what can be cancelled, by its execution
const functions = {
  greet: ({ name = "you" }) => ({ greeting: `Hello, ${name}!` }),
  crunch: (_, signal) => new Promise((_, fail) => signal.addEventListener("abort", () => fail(new Error("cancelled")))),
};
const post = (path, body) => fetch(plane + path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const server = createServer(async (request, response) => {
  const reply = (status, body) => response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body ?? null));
  const [, area, name, id] = request.url.split("/");
  if (request.url === "/status") return reply(200, { status: "running" });
  if (area === "_internal") return reply(200, { cancelled: running.has(id), seen: running.get(id)?.abort() });
  if (!Object.hasOwn(functions, name)) return reply(404, { error: `there is no ${request.url}` });
  const [execution, work] = [request.headers["x-execution-id"], new AbortController()];
  running.set(execution, work);
  await request.toArray().then((text) => functions[name](JSON.parse(text.join("")), work.signal))
    .then((result) => reply(200, result), (error) => reply(error instanceof SyntaxError ? 400 : 500, { error: error.message }));
  running.delete(execution);
}).listen(Number(process.env.PORT ?? 0), "127.0.0.1", async () => {
  const reasoners = Object.keys(functions).map((id) => ({ id }));
  const me = { id: "node-agent", base_url: `http://127.0.0.1:${server.address().port}`, reasoners };
  while (!(await post("/api/v1/nodes/register", me).catch(() => ({}))).ok) await new Promise((done) => setTimeout(done, 1000));
});
