// Reasoners in a real browser: they are found, tried from their page, and what was typed is not lost.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startAgent, startServer } from "./server.mjs";

let server;
let browser;
let agent;
let api;

before(async () => {
  server = await startServer();
  api = client(server.base);
  agent = await startAgent("support-agent");
  browser = await startBrowser();
  await api.register(agent, "greet");
});

after(async () => {
  await browser?.close();
  await agent?.stop();
  await server?.stop();
});

function visit(name, body, options = {}) {
  test(name, async () => {
    await visiting(browser, `functions ${name}`, { baseURL: server.base, ...options }, [/status of 422/], async (context) =>
      body(await context.newPage()),
    );
  });
}

visit("a function is found by a word, tried, and its execution watched", async (page) => {
  await page.goto("/");
  await page.locator("nav a", { hasText: "Reasoners" }).click();
  await page.locator("input[name=q]").fill("greet");
  await page.keyboard.press("Enter");
  await page.locator("a.row-link", { hasText: "greet" }).click();
  await page.locator("#live[data-on]").waitFor();
  await page.locator("textarea[name=input]").fill('{"name": ');
  await page.getByRole("button", { name: "Run it" }).click();
  await page.getByText("not valid JSON").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.locator("textarea[name=input]").fill('{"name": "Ada"}');
  await page.getByText("Session, actor, workflow and webhook").click();
  await page.locator("input[name=session]").fill("s-1");
  await page.getByRole("button", { name: "Run it" }).click();
  await page.waitForURL(/\/executions\/exec_/);
  const id = page.url().split("/").pop();
  await page.locator(".badge.big", { hasText: "Succeeded" }).waitFor();
  const execution = await (await fetch(`${server.base}/api/v1/executions/${id}`)).json();
  assert.equal(execution.session_id, "s-1");
  await page.goto(`/reasoners/support-agent.greet?from=${id}`);
  assert.match(await page.locator("textarea[name=input]").inputValue(), /"Ada"/);
  await page.locator(`#recent-${id}`).waitFor();
});

visit(
  "without script what is typed can be kept, and a result waited for",
  async (page) => {
    await page.goto("/reasoners/support-agent.greet");
    await page.locator("textarea[name=input]").fill('{"name": "Grace"}');
    await page.getByLabel("Wait for the result").check();
    await page.getByRole("button", { name: "Run it" }).click();
    await page.waitForURL(/\/executions\/exec_/);
    await page.locator(".badge.big", { hasText: "Succeeded" }).waitFor();
  },
  { javaScriptEnabled: false },
);

for (const colorScheme of ["light", "dark"]) {
  visit(
    `nothing is wider than a phone, and axe has nothing to say, in ${colorScheme}`,
    async (page) => {
      for (const path of ["/reasoners", "/reasoners/support-agent.greet"]) {
        await page.goto(path);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
        assert.deepEqual(await axe(page), []);
      }
    },
    { colorScheme, viewport: { width: 320, height: 700 } },
  );
}
