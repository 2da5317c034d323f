// Nodes in a real browser: what an operator sees of them and does to them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startAgent, startServer } from "./server.mjs";

let server;
let browser;
let first;
let second;
let api;

before(async () => {
  server = await startServer();
  api = client(server.base);
  first = await startAgent("support-agent");
  second = await startAgent("support-agent");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await first?.stop();
  await second?.stop();
  await server?.stop();
});

function visit(name, body, options = {}) {
  test(name, async () => {
    await visiting(browser, name, { baseURL: server.base, ...options }, [], async (context) => body(await context.newPage()));
  });
}

const reads = (locator, text) => locator.filter({ hasText: text }).first().waitFor();

visit("without nodes the page says how one registers, and follows the first that does", async (page) => {
  await page.goto("/nodes");
  await page.locator("#live[data-on]").waitFor();
  await reads(page.locator("h2"), "No agent has registered yet");
  assert.deepEqual(await axe(page), []);
  await api.register(first, "greet", "hold");
  await reads(page.locator("#node-support-agent"), "1 of 1");
  await api.register(second, "greet", "hold");
  await reads(page.locator("#node-support-agent"), "2 of 2");
  assert.deepEqual(await axe(page), []);
});

visit("an instance is drained and finishes what it has begun; the other takes the new calls", async (page) => {
  const begun = await api.submit("support-agent.hold");
  await page.goto("/nodes/support-agent");
  await page.locator("#live[data-on]").waitFor();
  await reads(page.locator(".stats a", { hasText: "Running" }).locator(".num"), "1");
  await page.getByRole("button", { name: "Drain all" }).click();
  await reads(page.getByRole("status"), "It gets no new calls");
  await reads(page.locator(".page-head .badge"), "Draining");
  const waits = await api.submit("support-agent.greet");
  assert.equal((await api.get(waits)).status, "pending");
  await reads(page.locator(".stats a", { hasText: "Queued" }).locator(".num"), "1");
  await page.locator("tr", { hasText: second.base }).getByRole("button", { name: "Resume" }).click();
  await reads(page.locator(".page-head .badge"), "Ready");
  assert.equal((await api.ended(waits)).status, "succeeded");
  first.release();
  second.release();
  assert.equal((await api.ended(begun)).status, "succeeded");
  assert.deepEqual(await axe(page), []);
});

visit("a function gets limits of its own, and loses them again", async (page) => {
  await page.goto("/nodes/support-agent");
  const greet = page.locator("#function-greet");
  await greet.locator("summary").click();
  const form = greet.getByRole("form", { name: "Limits of greet" });
  await form.getByLabel("At once").fill("2");
  await form.getByLabel("Per minute").fill("90");
  await form.getByRole("button", { name: "Set the limits of greet" }).click();
  await reads(page.getByRole("status"), "The limits are in force");
  await reads(greet.locator("summary"), "2 at once, 90 a minute");
  await greet.locator("summary").click();
  assert.deepEqual(await axe(page), []);
  await form.getByLabel("At once").fill("0");
  await form.getByLabel("Per minute").fill("0");
  await form.getByRole("button", { name: "Set the limits of greet" }).click();
  await reads(page.getByRole("status"), "The limits are in force");
  assert.equal(await greet.locator("summary").getByText("at once").count(), 0);
});

visit("an execution that waits for its turn says what for, and how many are ahead", async (page) => {
  const limit = (body) => page.request.post("/api/v1/nodes/support-agent/limits", { data: { function: "hold", ...body } });
  await limit({ max_concurrency: 1 });
  const all = [];
  for (let n = 0; n < 4; n++) all.push(await api.submit("support-agent.hold"));
  await page.goto(`/executions/${all[3]}`);
  await reads(page.locator("#execution"), "support-agent.hold is at its limit (1 of 1); 2 ahead of it.");
  assert.deepEqual(await axe(page), []);
  await limit({ max_concurrency: 0 });
  for (let left = all.length; left > 0; ) {
    first.release();
    second.release();
    const states = await Promise.all(all.map(async (id) => (await api.get(id)).status));
    left = states.filter((status) => status !== "succeeded").length;
  }
});

for (const scheme of ["light", "dark"]) {
  visit(
    `without script, narrow and ${scheme}, limits are set and a bad one is refused in words`,
    async (page) => {
      await page.goto("/nodes/support-agent");
      await page.getByLabel("Executions at once").fill("7");
      await page.getByRole("button", { name: "Set limits" }).click();
      await reads(page.getByRole("status"), "The limits are in force");
      assert.equal(await page.getByLabel("Executions at once").inputValue(), "7");
      assert.match(await page.locator(".stats").textContent(), /of 7 at once/);
      await page.locator("details", { hasText: "greet" }).locator("summary").click();
      await reads(page.locator("pre"), "support-agent.greet");
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(over, 0);
    },
    { javaScriptEnabled: false, viewport: { width: 320, height: 700 }, colorScheme: scheme },
  );

  visit(
    `nothing on the page of a node is against the rules in ${scheme}`,
    async (page) => {
      await page.goto("/nodes/support-agent");
      assert.deepEqual(await axe(page), []);
    },
    { colorScheme: scheme },
  );
}
