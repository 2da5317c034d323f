// Webhooks in a real browser: what was announced to whom, and sending it again.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startAgent, startServer } from "./server.mjs";

let server;
let browser;
let agent;
let api;
let receiver;

/** Where webhooks go: /gone is answered 410 until the test changes its mind, everything else 204. Ids are kept in the order they came. */
async function startReceiver() {
  const got = [];
  const waiting = [];
  let gone = 410;
  const listener = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response.writeHead(request.url.startsWith("/gone") ? gone : 204);
      response.end(request.url.startsWith("/gone") && gone === 410 ? "this address is closed" : "");
      got.push(request.headers["webhook-id"]);
      for (const look of waiting.splice(0)) look();
    });
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    base: `http://127.0.0.1:${listener.address().port}`,
    got,
    async until(n) {
      while (got.length < n) await new Promise((resolve) => waiting.push(resolve));
    },
    recover() {
      gone = 204;
    },
    stop() {
      listener.closeAllConnections();
      return new Promise((resolve) => listener.close(resolve));
    },
  };
}

/** Runs an execution that announces its end at a path of the receiver. */
async function announced(path) {
  const response = await fetch(`${server.base}/api/v1/execute/async/demo.greet`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ input: {}, webhook: { url: receiver.base + path, secret: "s3cret", headers: { "X-Token": "t0ken" } } }),
  });
  assert.equal(response.status, 202, await response.clone().text());
  return (await response.json()).execution_id;
}

before(async () => {
  process.env.AGENTFIELD_WEBHOOK_ALLOWED_HOSTS = "127.0.0.1";
  server = await startServer();
  api = client(server.base);
  agent = await startAgent("demo");
  receiver = await startReceiver();
  browser = await startBrowser();
  await api.register(agent, "greet");
});

after(async () => {
  await browser?.close();
  await receiver?.stop();
  await agent?.stop();
  await server?.stop();
});

function visit(name, body, options = {}) {
  test(name, async () => {
    await visiting(browser, name, { baseURL: server.base, ...options }, [], async (context) => body(await context.newPage()));
  });
}

const reads = (locator, text) => locator.filter({ hasText: text }).first().waitFor();
/** Waits until so many deliveries wait for their host, by the export of the list. */
async function held(n) {
  for (;;) {
    const lines = await (await fetch(`${server.base}/webhooks.ndjson?state=held`)).text();
    if (lines.split("\n").length - 1 === n) return;
  }
}

const narrow = async (page) =>
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);

visit("without webhooks the page says how one is registered, and tells of the first", async (page) => {
  await page.goto("/webhooks");
  await page.locator("#live[data-on]").waitFor();
  await reads(page.locator("h2"), "No webhook yet");
  await reads(page.locator("pre"), "demo.greet");
  assert.deepEqual(await axe(page), []);
  await announced("/gone/1");
  await page.locator("#fresh a").click();
  await reads(page.locator("tbody tr"), "410");
});

visit("the list is filtered by state and response, and leads to every attempt", async (page) => {
  await announced("/gone/2");
  await announced("/in");
  await receiver.until(3);
  await page.goto("/webhooks");
  await page.locator("#live[data-on]").waitFor();
  await reads(page.locator("tbody tr"), "Delivered");
  await page
    .getByRole("link", { name: /^Dead letters/ })
    .first()
    .click();
  await page.waitForURL(/state=failed/);
  assert.equal(await page.locator("tbody tr").count(), 2);
  await page.getByLabel("Last response").selectOption("2xx");
  await reads(page.locator("h2"), "No webhook matches");
  await page.getByRole("link", { name: "Show all webhooks" }).click();
  await page.waitForURL(/\/webhooks$/);
  await page.locator("tbody tr", { hasText: "/gone/2" }).locator(".row-link").click();
  await reads(page.locator(".advice"), "410 Gone: retries stopped");
  await reads(page.locator(".tries"), "this address is closed");
  await reads(page.locator("pre"), "def verify(");
  assert.doesNotMatch(await page.content(), /t0ken|s3cret/);
});

visit("one is sent again and the page follows", async (page) => {
  receiver.recover();
  await page.goto("/webhooks?state=failed");
  await page.locator(".row-link").first().click();
  await page.locator("#live[data-on]").waitFor();
  await page.getByRole("button", { name: "Send again" }).click();
  await reads(page.getByRole("status"), "sent again");
  await reads(page.locator(".page-head .badge"), "Delivered");
  await receiver.until(4);
  assert.ok(receiver.got.slice(0, 3).includes(receiver.got[3]), "the id has changed");
});

visit(
  "without script, narrow: selected ones and all that match are sent again after a question",
  async (page) => {
    await page.goto("/webhooks");
    await narrow(page);
    await page.locator("tbody input[type=checkbox]").first().check();
    await page.getByRole("button", { name: "Send again…" }).click();
    await reads(page.locator("form.confirm"), "The receiver may see duplicates");
    await narrow(page);
    await page.getByRole("button", { name: "Send 1 webhook again" }).click();
    await reads(page.getByRole("status"), "1 webhook sent again");
    await receiver.until(5);
    await page.goto("/webhooks?state=failed&since=1h");
    await page.locator("summary", { hasText: "Act on all" }).click();
    await page.getByRole("link", { name: /Send all matching again/ }).click();
    await reads(page.locator("form.confirm"), "1 webhook");
    await page.getByRole("button", { name: "Send 1 webhook again" }).click();
    await reads(page.getByRole("status"), "1 webhook sent again");
    await receiver.until(6);
    await page.locator(".row-link").first().click();
    await reads(page.locator("h2"), "Schedule");
    await narrow(page);
  },
  { javaScriptEnabled: false, viewport: { width: 320, height: 700 } },
);

visit("an endpoint is created, tried with a test event, and told of what happens", async (page) => {
  const before = receiver.got.length;
  await page.goto("/webhooks");
  await page.getByRole("navigation", { name: "Webhooks" }).getByRole("link", { name: "Endpoints" }).click();
  await reads(page.locator("h2"), "No endpoint yet");
  await page.getByLabel("Name").fill("billing");
  await page.getByLabel("Address").fill(`${receiver.base}/endpoint`);
  await page.getByRole("button", { name: "Create the endpoint" }).click();
  await reads(page.locator("#secret"), "whsec_");
  assert.deepEqual(await axe(page), []);
  await page.getByRole("button", { name: "Send test event" }).click();
  await reads(page.getByRole("status"), "test event is on its way");
  await reads(page.locator(".page-head .badge"), "Delivered");
  await reads(page.locator(".tag"), "test");
  await receiver.until(before + 1);
  await page.getByRole("link", { name: "billing" }).click();
  await page.locator("#live[data-on]").waitFor();
  await api.submit("demo.greet");
  await reads(page.locator("#endpoint .brief"), "execution.completed");
  await receiver.until(before + 2);
  await page.getByRole("button", { name: "Disable" }).click();
  await reads(page.locator(".page-head .badge"), "Disabled");
});

visit(
  "without script, narrow: an endpoint is changed and deleted",
  async (page) => {
    await page.goto("/webhooks/endpoints");
    await narrow(page);
    await page.getByRole("link", { name: "billing" }).click();
    await narrow(page);
    await page.getByLabel("Name").fill("invoices");
    await page.getByLabel("approval.requested").check();
    await page.getByRole("button", { name: "Change the endpoint" }).click();
    await reads(page.getByRole("status"), "The endpoint is changed.");
    await reads(page.locator("h1"), "invoices");
    await page.locator("summary", { hasText: "Delete" }).click();
    await page.getByRole("button", { name: "Delete it" }).click();
    await reads(page.getByRole("status"), "The endpoint is deleted.");
    await reads(page.locator("h2"), "No endpoint yet");
  },
  { javaScriptEnabled: false, viewport: { width: 320, height: 700 } },
);

visit("a host is paused: what goes to it waits in sight, and is sent when the host is resumed", async (page) => {
  const host = new URL(receiver.base).host;
  const before = receiver.got.length;
  await page.goto("/webhooks");
  await page.getByRole("navigation", { name: "Webhooks" }).getByRole("link", { name: "Hosts" }).click();
  await page.locator("#live[data-on]").waitFor();
  await reads(page.locator("tbody tr"), host);
  await page.getByRole("button", { name: `Pause ${host}` }).click();
  await reads(page.getByRole("status"), "gets nothing");
  await reads(page.locator("tbody .badge"), "Paused");
  assert.deepEqual(await axe(page), []);
  await announced("/in");
  await held(1);
  await page.goto("/webhooks?state=held");
  await reads(page.locator("tbody tr"), "Waiting for host");
  await page.locator(".row-link").first().click();
  await reads(page.locator(".advice"), "sent once the host is open again");
  assert.deepEqual(await axe(page), []);
  assert.equal(receiver.got.length, before);
  await held(1);
  await announced("/never");
  await held(2);
  await page.goto("/webhooks?state=held");
  await page.locator("tbody tr", { hasText: "/never" }).locator("input").check();
  await page.getByRole("button", { name: "Stop…" }).click();
  await reads(page.locator("form.confirm"), "1 webhook");
  assert.deepEqual(await axe(page), []);
  await page.getByRole("button", { name: "Stop 1 webhook" }).click();
  await reads(page.getByRole("status"), "1 webhook stopped");
  await reads(page.locator("tbody tr"), "Stopped");
  await page.goto("/webhooks/hosts");
  await page.getByRole("button", { name: `Resume ${host}` }).click();
  await reads(page.getByRole("status"), "gets what has waited");
  await receiver.until(before + 1);
});

for (const colorScheme of ["light", "dark"]) {
  visit(
    `nothing on the pages of webhooks is against the rules in ${colorScheme}`,
    async (page) => {
      await page.goto("/webhooks");
      assert.deepEqual(await axe(page), []);
      await page.locator(".row-link").first().click();
      await reads(page.locator("h2"), "Schedule");
      assert.deepEqual(await axe(page), []);
      await page.goto("/webhooks/redeliver?state=delivered");
      assert.deepEqual(await axe(page), []);
      await page.goto("/webhooks/endpoints");
      assert.deepEqual(await axe(page), []);
      await page.goto("/webhooks/hosts");
      assert.deepEqual(await axe(page), []);
    },
    { colorScheme },
  );
}
