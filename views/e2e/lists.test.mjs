// Lists in a real browser against the real server: the filter language, saved views, exports, acting on many, the palette, time zones.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startAgent, startServer } from "./server.mjs";

let server;
let browser;
let api;
const agents = [];

before(async () => {
  server = await startServer();
  api = client(server.base);
  for (const id of ["support-agent", "billing"]) {
    const agent = await startAgent(id);
    agents.push(agent);
    await api.register(agent, "greet", "fail", "hold");
  }
  const ids = [];
  for (let i = 0; i < 3; i++) {
    ids.push(await api.submit("support-agent.greet", { n: i }, { "X-Session-ID": "s1" }));
    ids.push(await api.submit("billing.fail", { n: i }));
  }
  for (const id of ids) await api.ended(id);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  for (const agent of agents) await agent.stop();
  await server?.stop();
});

/** One test with a fresh visitor, in whose visit nothing may go wrong. */
function visit(name, run, options = {}, allow = []) {
  test(name, { timeout: 60_000 }, async () => {
    await visiting(browser, `lists ${name}`, { baseURL: server.base, ...options }, allow, async (context) =>
      run(await context.newPage(), context),
    );
  });
}

const targets = (page) => page.locator("tbody tr .c-target a:last-of-type").allTextContents();
const query = (page) => new URL(page.url()).searchParams;

visit("a mistake in the filter is told, and the rest of it holds", async (page) => {
  await page.goto("/executions");
  await page.locator("#f-q").fill("node:billing staus:failed");
  await page.locator("#f-q").press("Enter");
  await page.locator("#q-problems", { hasText: "Did you mean status?" }).waitFor();
  assert.deepEqual(await targets(page), ["fail", "fail", "fail"]);
  assert.equal(await page.locator("#f-q").getAttribute("aria-invalid"), "true");
  assert.deepEqual(await axe(page), []);
  await page.locator("#q-problems a").click();
  await page.locator("#q-problems").waitFor({ state: "detached" });
  assert.equal(query(page).get("q"), "node:billing status:failed");
});

visit("the address of a filtered list gives the same rows anywhere, and Back goes back", async (page, context) => {
  await page.goto("/executions");
  await page.locator("#f-q").fill("session:s1 -node:billing dur:<1h");
  await page.locator("#f-q").press("Enter");
  await page.waitForURL(/q=session/);
  await page.locator(".chip", { hasText: "session:s1" }).waitFor();
  const rows = await page.locator("tbody tr").evaluateAll((all) => all.map((row) => row.id));
  assert.equal(rows.length, 3);
  const other = await context.newPage();
  await other.goto(page.url());
  assert.deepEqual(await other.locator("tbody tr").evaluateAll((all) => all.map((row) => row.id)), rows);
  await page.goBack();
  await page.locator(".chip").first().waitFor({ state: "detached" });
  assert.equal(query(page).get("q"), null);
});

visit("a filter is kept under a name, shared by its address, and says when it was changed", async (page, context) => {
  await page.goto("/executions?q=node:billing");
  await page.locator("#views summary").click();
  await page.locator("#views input[name=name]").fill("Billing only");
  await page.locator("#views .save button").click();
  await page.locator(".tabs [aria-current]", { hasText: "Billing only" }).waitFor();
  const other = await context.newPage();
  await other.goto(`/executions?view=${query(page).get("view")}`);
  assert.deepEqual(await targets(other), ["fail", "fail", "fail"]);
  await other.locator("#f-q").fill("node:billing status:succeeded");
  await other.locator("#f-q").press("Enter");
  await other.locator(".tabs [aria-current]", { hasText: "modified" }).waitFor();
  await page.locator("#views summary").click();
  await page.locator("#views button[title^=Delete]").click();
  await page.locator(".tabs a", { hasText: "Billing only" }).waitFor({ state: "detached" });
});

visit("an export holds exactly what the list shows", async (page) => {
  await page.goto("/executions?q=node:billing");
  await page.locator(".foot summary", { hasText: "Export" }).click();
  const wait = page.waitForEvent("download");
  await page.locator(".export a", { hasText: "CSV" }).click();
  const download = await wait;
  assert.match(download.suggestedFilename(), /^executions-node-billing-\d{8}-\d{6}\.csv$/);
  const lines = (await readFile(await download.path(), "utf8")).trim().split("\n");
  assert.equal(lines.length, 4);
  for (const line of lines.slice(1)) assert.match(line, /,failed,billing\.fail,/);
});

visit(
  "selected rows are run again after a look, without a script too",
  async (page) => {
    await page.goto("/executions?q=node:billing&select=1");
    await page.locator(".tick").nth(0).check();
    await page.locator(".tick").nth(1).check();
    assert.deepEqual(await axe(page), []);
    await page.locator("#pick button", { hasText: "Run again" }).click();
    await page.locator("h1", { hasText: "Run 2 executions again" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await page.locator(".confirm button").click();
    await page.waitForURL(/\/bulk\/bulk_/);
    for (let i = 0; i < 50 && !(await page.getByText("Done.").isVisible()); i++) await page.reload();
    assert.equal(await page.locator(".job-items li").count(), 2);
    assert.deepEqual(await axe(page), []);
  },
  { colorScheme: "dark" },
);

visit(
  "everything that matches is cancelled, and the job can be stopped",
  async (page) => {
    for (let i = 0; i < 120; i++) await api.submit("support-agent.hold", { n: i });
    await page.goto("/executions?q=target:support-agent.hold");
    await page.locator(".act summary").click();
    await page.locator(".act a", { hasText: "Cancel all" }).click();
    await page.locator("h1", { hasText: "Cancel 120 executions" }).waitFor();
    await page.locator("input[name=confirm]").fill("7");
    await page.locator(".confirm button").click();
    await page.locator(".problem", { hasText: "Type the number" }).waitFor();
    await page.locator("input[name=confirm]").fill("120");
    await page.locator(".confirm button").click();
    await page.locator("button", { hasText: "Stop" }).click();
    await page.locator("#job-state", { hasText: "Stopped" }).waitFor();
    const left = await page.locator(".sums li", { hasText: "To do" }).locator("b").textContent();
    assert.ok(Number(left) > 0, `${left} are left`);
    assert.deepEqual(await axe(page), []);
    for (const agent of agents) agent.release();
  },
  {},
  [/422/],
);

visit("values are offered for the term that is typed, on the lists of executions and runs", async (page) => {
  for (const path of ["/executions", "/runs"]) {
    await page.goto(path);
    await page.locator("html[data-js]").waitFor();
    await page.locator("#f-q").pressSequentially("status:failed node:supp");
    await page.locator("#q-hints option[value='status:failed node:support-agent']").waitFor({ state: "attached" });
    await page.locator("#f-q").fill("node:billing");
    await page.locator("#f-q").press("Enter");
    await page.locator(".chip", { hasText: "node:billing" }).waitFor();
    assert.deepEqual(await axe(page), []);
  }
});

visit("the palette does things by keyboard alone", async (page) => {
  await page.goto("/executions");
  await page.locator("html[data-js]").waitFor();
  await page.keyboard.press("Control+k");
  await page.locator(".palette input").waitFor();
  assert.deepEqual(await axe(page), []);
  await page.keyboard.type("status:failed node:billing");
  await page.locator(".palette [aria-selected=true]", { hasText: "Filter executions" }).waitFor();
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=status/);
  await page.locator("html[data-js]").waitFor();
  await page.keyboard.press("Control+k");
  await page.locator(".palette input").waitFor();
  await page.keyboard.type("bill");
  await page.locator(".palette li", { hasText: "Executions of billing.greet" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".palette").waitFor({ state: "detached" });
  await page.keyboard.press("Control+k");
  await page.keyboard.type("approvals");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/approvals$/);
});

visit("times are in the chosen zone, from the first byte on", async (page) => {
  await page.goto("/executions");
  await page.locator(".zone summary").click();
  await page.locator(".zone input[name=place]").fill("Asia/Tokyo");
  await page.locator(".zone button", { hasText: "Use it" }).click();
  await page.locator("html[data-tz='Asia/Tokyo']").waitFor({ state: "attached" });
  assert.match(await page.locator("tbody time").first().getAttribute("title"), /UTC · .* Asia\/Tokyo$/);
  const shown = await page.locator(".foot [data-zone]").textContent();
  assert.equal(shown, "Asia/Tokyo");
  await page.goto("/executions?tz=utc");
  assert.equal(await page.locator(".foot [data-zone]").textContent(), "UTC");
});

for (const colorScheme of ["light", "dark"]) {
  visit(
    `the overview shows why things fail, in ${colorScheme}`,
    async (page) => {
      await page.goto("/");
      await page.locator(".groups li", { hasText: "the model is overloaded" }).first().waitFor();
      assert.deepEqual(await axe(page), []);
      await page.locator(".groups a", { hasText: "Run again" }).first().click();
      await page.locator("h1", { hasText: /Run \d+ executions again/ }).waitFor();
      assert.deepEqual(await axe(page), []);
    },
    { colorScheme },
  );
}
