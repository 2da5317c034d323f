// One execution in a real browser: repeated with another input, read by level and words, left and come back to.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startAgent, startServer } from "./server.mjs";

let server;
let agent;
let browser;
let api;

const schema = {
  type: "object",
  required: ["topic"],
  properties: {
    topic: { type: "string", description: "What to look into." },
    depth: { type: "integer", minimum: 1, maximum: 5 },
    style: { enum: ["short", "long"] },
    sources: { type: "boolean" },
  },
};

before(async () => {
  server = await startServer();
  agent = await startAgent("research-agent");
  browser = await startBrowser();
  api = client(server.base);
  await fetch(`${server.base}/api/v1/nodes/register`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      id: agent.id,
      base_url: agent.base,
      reasoners: [{ id: "greet", input_schema: schema }, { id: "hold" }, { id: "fail" }],
    }),
  });
});

after(async () => {
  await browser?.close();
  await agent?.stop();
  await server?.stop();
});

function scene(name, body, options, allow) {
  test(name, { timeout: 60_000 }, async () => {
    await visiting(browser, name, { baseURL: server.base, ...options }, allow, body);
  });
}

const say = (id, path, body, headers = {}) =>
  fetch(`${server.base}/api/v1/executions/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Execution-ID": id, ...headers },
    body: JSON.stringify(body),
  });

const log = (id, level, message) => say(id, `${id}/logs`, { level, message, agent_node_id: agent.id });

scene(
  "an execution is run again with an edited input, by form and by JSON",
  async (context) => {
    const first = await api.submit("research-agent.greet", { topic: "quantum computing", depth: 2, style: "short" });
    await api.ended(first);
    const page = await context.newPage();
    await page.goto(`/executions/${first}`);
    await page.getByText("Run again…").click();
    await page.getByRole("link", { name: "Edit the input first…" }).click();
    assert.equal(await page.getByLabel(/topic/).inputValue(), "quantum computing");
    await page.getByLabel(/topic/).fill("error correction");
    await page.getByLabel("depth").fill("9");
    await page.getByRole("button", { name: "Run again" }).click();
    await page.getByText("At most 5.").waitFor();
    assert.deepEqual(await axe(page), []);
    await page.getByLabel("depth").fill("4");
    await page.getByRole("button", { name: "JSON" }).click();
    await page.getByText("Changed so far").waitFor();
    assert.match(await page.locator("#input").inputValue(), /"topic": "error correction"/);
    assert.deepEqual(await axe(page), []);

    // What is typed is there again after leaving.
    await page.locator("#input").fill('{"topic": "half a thought", "depth": 4, "style": "long"}');
    await page.goto("/executions");
    await page.goto(`/executions/${first}/rerun`);
    await page.getByText("Your draft, kept").waitFor();
    assert.match(await page.locator("#input").inputValue(), /half a thought/);

    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForURL(/\/executions\/exec_/);
    const made = new URL(page.url()).pathname.split("/").pop();
    assert.notEqual(made, first);
    await page.getByText("Repeats", { exact: true }).waitFor();
    await page.getByText("Run again…").click();
    await page.getByRole("link", { name: "compare the two" }).click();
    await page.getByText("half a thought").waitFor();
    assert.deepEqual(await axe(page), []);
  },
  {},
  [/status of 422/],
);

scene("notes and log are read by level and words, and grow while one looks", async (context) => {
  const id = await api.submit("research-agent.hold", {});
  const page = await context.newPage();
  await page.goto(`/executions/${id}`);
  await log(id, "info", "reading the first page");
  await log(id, "error", "the second page is torn");
  await say(id, "note", { message: "looks promising", tags: ["plan"] });
  await say(id, `${id}/progress`, { progress: 0.4, message: "page 2 of 5", partial: { pages: [1, 2] } });
  const clock = page.locator("section", { has: page.locator("#history-title") });
  await clock.getByText("the second page is torn").waitFor();
  await clock.getByText("looks promising").waitFor();
  await page.getByText("40 %").first().waitFor();
  assert.deepEqual(await axe(page), []);

  await page.locator("#clock-level").selectOption("error");
  await page.waitForURL(/level=error/);
  await clock.getByText("the second page is torn").waitFor();
  assert.equal(await clock.getByText("reading the first page").count(), 0);
  await log(id, "error", "the third one too"); // live, and the filter stays
  await clock.getByText("the third one too").waitFor();
  assert.equal(await clock.getByText("reading the first page").count(), 0);
  await page.getByRole("link", { name: "Show everything" }).click();
  await page.locator("#clock-q").fill("promising");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=promising/);
  await clock.getByText("looks promising").waitFor();
  assert.equal(await clock.getByText("torn").count(), 0);
  agent.release();
  await api.ended(id);
});

scene(
  "without script the page is whole: the clock, its filter, running again",
  async (context) => {
    const id = await api.submit("research-agent.greet", { topic: "x" });
    await api.ended(id);
    await log(id, "warn", "slow answer");
    const page = await context.newPage();
    await page.goto(`/executions/${id}`);
    await page.locator("#clock-level").selectOption("warn");
    await page.locator(".clock-filter button").click();
    await page.getByText("slow answer").waitFor();
    await page.getByText("Run again…").click();
    await page.getByRole("button", { name: "Run as it was" }).click();
    await page.waitForURL((url) => !url.pathname.endsWith(id));
    await page.getByText("Repeats", { exact: true }).waitFor();
  },
  { javaScriptEnabled: false },
);

for (const colorScheme of ["light", "dark"]) {
  scene(
    `nothing is wider than a phone, and axe has nothing to say, in ${colorScheme}`,
    async (context) => {
      const id = await api.submit("research-agent.greet", { topic: "a rather long topic ".repeat(8), style: "long" });
      await api.ended(id);
      await log(id, "error", `a_word_without_any_end_${"x".repeat(200)}`);
      const other = await api.submit("research-agent.fail", {});
      await api.ended(other);
      const page = await context.newPage();
      for (const path of [`/executions/${id}`, `/executions/${id}/rerun`, `/executions/compare?a=${id}&b=${other}`]) {
        await page.goto(path);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, `${path} is ${wide} px too wide`);
        assert.deepEqual(await axe(page), [], path);
        if (process.env.PICTURES) {
          await page.screenshot({
            path: `${process.env.PICTURES}/${path.split("?")[0].split("/").pop().slice(0, 7)}-${colorScheme}-390.png`,
            fullPage: true,
          });
        }
      }
    },
    { colorScheme, viewport: { width: 390, height: 800 } },
  );
}
