// The pages of runs in a real browser: a run that agents make while they call each other through the server, as they do in production.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startServer } from "./server.mjs";

let server;
let browser;
let agent;
let api;

/**
 * An agent whose function "plan" calls others through the server, with the headers of its own call: leaf answers, fail does not, hold
 * waits for release(). The input says how often: {leaf: 3, fail: 1, hold: 1, deep: 2}, where each deep one plans once more.
 */
async function startPlanner(base) {
  const held = [];
  async function call(name, input, headers) {
    const passed = Object.fromEntries(["x-run-id", "x-workflow-id", "x-session-id"].flatMap((h) => (headers[h] ? [[h, headers[h]]] : [])));
    await fetch(`${base}/api/v1/execute/planner.${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...passed, "X-Parent-Execution-ID": headers["x-execution-id"] },
      body: JSON.stringify({ input }),
    });
  }
  async function plan({ deep = 0, leaf = 0, fail = 0, hold = 0, within = {} }, headers) {
    const times = (n, name, input) => Array.from({ length: n }, () => [name, input]);
    for (const [name, input] of [
      ...times(leaf, "leaf", {}),
      ...times(fail, "fail", {}),
      ...times(deep, "plan", within),
      ...times(hold, "hold", {}),
    ]) {
      await call(name, input, headers);
    }
  }
  const listener = createServer((request, response) => {
    const answer = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", async () => {
      switch (request.url) {
        case "/reasoners/plan":
          await plan(JSON.parse(body), request.headers);
          return answer(200, { planned: true });
        case "/reasoners/fail":
          return answer(500, { error: "the model is overloaded" });
        case "/reasoners/hold":
          held.push(() => answer(200, {}));
          return undefined;
        default:
          return answer(200, {});
      }
    });
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    id: "planner",
    base: `http://127.0.0.1:${listener.address().port}`,
    /** Lets everything that waits come to its end. */
    release() {
      for (const go of held.splice(0)) go();
    },
    stop() {
      this.release();
      listener.closeAllConnections();
      return new Promise((resolve) => listener.close(resolve));
    },
  };
}

before(async () => {
  server = await startServer();
  api = client(server.base);
  agent = await startPlanner(server.base);
  await api.register(agent, "plan", "leaf", "fail", "hold");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await agent?.stop();
  await server?.stop();
});

/** A test with a visitor of its own; with no options it has one page open. */
function visit(name, body, options) {
  test(name, async () => {
    await visiting(browser, name, { baseURL: server.base, ...options }, [], async (context) => body(await context.newPage(), context));
  });
}

const json = async (path) => (await fetch(server.base + path)).json();
const live = (page) => page.locator("#live[data-on]").waitFor();
const reads = (locator, text) => locator.filter({ hasText: text }).first().waitFor();
const path = (page) => page.url().slice(server.base.length);
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** Starts a run and waits until it has so many steps. */
async function started(input, steps) {
  const id = await api.submit("planner.plan", input);
  const { run_id } = await api.get(id);
  for (;;) {
    const run = await json(`/api/v1/runs/${run_id}`);
    if (run.total >= steps) return { id, run: run_id };
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Starts a run and waits for its end. */
async function ended(input) {
  const id = await api.submit("planner.plan", input);
  const { run_id } = await api.ended(id);
  return { id, run: run_id };
}

visit("an empty list teaches with a command for this server", async (page) => {
  await page.goto("/runs?actor=nobody");
  await reads(page.locator("h2"), "No run yet");
  assert.match(await page.locator("#teach").textContent(), new RegExp(`${server.base}/api/v1/execute/`));
  assert.deepEqual(await axe(page), []);
});

visit("leave during a run and come back: state, progress, chosen step and scroll are there", async (page, context) => {
  const { id, run } = await started({ leaf: 2, fail: 1, deep: 5, within: { leaf: 5 }, hold: 1 }, 35);
  const graph = await json(`/api/v1/workflows/${run}/dag?mode=lightweight`);
  const held = graph.timeline.find((step) => step.reasoner_id === "hold").execution_id;
  const reports = (progress, message) =>
    fetch(`${server.base}/api/v1/executions/${held}/progress`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Execution-ID": held },
      body: JSON.stringify({ progress, message }),
    });
  await page.setViewportSize({ width: 1100, height: 700 });
  await page.goto(`/runs/${run}`);
  await live(page);
  await reads(page.locator(".reason"), "at work for");
  await page.locator(`#n-${id}`).click();
  await page.locator(".step-panel").waitFor();
  assert.equal(path(page), `/runs/${run}?node=${id}`);
  await page.locator("#canvas").evaluate((box) => box.scrollTo(40, 300));
  await page.locator("[data-zoom='+']").click();
  const before = await page.locator("#canvas").evaluate((box) => [box.scrollLeft, box.scrollTop]);
  const url = page.url();
  await page.goto(`/runs/${run}?node=${held}`);
  await reports(0.25, "a quarter is read");
  await reads(page.locator(".step-panel"), "a quarter is read");
  await page.goto("/runs");
  await reports(0.75, "nearly all is read");
  await page.goto(`/runs/${run}?node=${held}`);
  await reads(page.locator(".step-panel"), "nearly all is read");
  await reads(page.locator(".step-panel"), "75 %");
  await page.goto("/runs");
  agent.release();
  await api.ended(id);

  await page.goto(url);
  await reads(page.locator(".badge.big").first(), "Succeeded");
  await page.locator(`#n-${id}.is-succeeded[aria-selected=true]`).waitFor();
  assert.deepEqual(await page.locator("#canvas").evaluate((box) => [box.scrollLeft, box.scrollTop]), before);
  assert.equal(await page.locator("#zoom").textContent(), "125 %");

  const other = await context.browser().newContext({ baseURL: server.base, javaScriptEnabled: false });
  const plain = await other.newPage();
  await plain.goto(url);
  await reads(plain.locator(".badge.big").first(), "Succeeded");
  await plain.locator(`#n-${id}[aria-selected=true]`).waitFor();
  await other.close();
});

visit("a page that is open follows its run and keeps the focus", async (page) => {
  const { run } = await started({ leaf: 1, hold: 1, fail: 1 }, 4);
  await page.goto(`/runs/${run}`);
  await live(page);
  const held = page.locator(".item.is-running", { hasText: "hold" });
  await held.focus();
  const id = await held.getAttribute("id");
  agent.release();
  await page.locator(`#${id}.is-succeeded`).waitFor();
  await reads(page.locator(".badge.big").first(), "Succeeded");
  assert.equal(await page.evaluate(() => document.activeElement.id), id);
});

visit("the list follows its runs, counts new ones and moves nothing", async (page) => {
  const { run } = await started({ leaf: 1, hold: 1 }, 3);
  await page.goto("/runs");
  await live(page);
  const row = page.locator(`#row-${run}`);
  await reads(row, "Running");
  await reads(row, "1/3");
  const first = await page.locator("tbody tr").first().getAttribute("id");
  agent.release();
  await reads(row, "3/3");
  const { run: newer } = await ended({ leaf: 1 });
  await reads(page.locator("#fresh a"), "1 new since");
  assert.equal(await page.locator("tbody tr").first().getAttribute("id"), first);
  await page.keyboard.press("n");
  await page.locator(`#row-${newer}`).waitFor();
  await page.locator("#tab-Failed").click();
  await page.waitForURL(/status=failed,timeout/);
});

visit("the tree is walked by keyboard", async (page) => {
  const { id, run } = await ended({ leaf: 2, deep: 1, within: { leaf: 1 }, fail: 1 });
  for (const view of ["graph", "tree"]) {
    await page.goto(`/runs/${run}?view=${view}`);
    const at = () => page.evaluate(() => `${document.activeElement.getAttribute("class")} ${document.activeElement.textContent}`);
    await page.locator(`[role=treeitem][tabindex="0"]`).focus();
    assert.match(await at(), /is-succeeded.*plan/s);
    await page.keyboard.press("ArrowRight");
    assert.match(await at(), /leaf/);
    await page.keyboard.press("ArrowDown");
    assert.match(await at(), /leaf/);
    await page.keyboard.press("!");
    assert.match(await at(), /is-failed.*fail/s);
    await page.keyboard.press("ArrowLeft");
    assert.match(await at(), /is-succeeded.*plan/s);
    await page.keyboard.press("Enter");
    await page.locator(".step-panel").waitFor();
    assert.equal(path(page), `/runs/${run}?view=${view}&node=${id}`);
    await page.goBack();
    await page.locator(".step-panel").waitFor({ state: "detached" });
    assert.equal(path(page), `/runs/${run}?view=${view}`);
    await page.waitForLoadState();
  }
});

visit("search opens what is folded above its finds", async (page) => {
  const { run } = await ended({ deep: 9, within: { leaf: 1, fail: 0, deep: 1, within: { fail: 1 } } });
  await page.goto(`/runs/${run}`);
  const graph = await json(`/api/v1/workflows/${run}/dag?mode=lightweight`);
  const wanted = graph.timeline.filter((step) => step.reasoner_id === "leaf")[5].execution_id;
  assert.equal(await page.locator(`#n-${wanted}`).count(), 0);
  await page.locator("#find").fill(wanted);
  await page.keyboard.press("Enter");
  await page.locator(`#n-${wanted}`).waitFor();
  await reads(page.locator(".toolbar"), "1 of");
  await page.locator(".item.many").first().click();
  await page.waitForURL(/open=/);
});

visit(
  "without JavaScript steps, folds, views and filters are links",
  async (page) => {
    const { id, run } = await ended({ leaf: 9, fail: 1 });
    await page.goto("/runs");
    await page.locator(`#row-${run} .row-link`).click();
    assert.equal(path(page), `/runs/${run}`);
    const folded = await page.locator(".item").count();
    await page.locator(".item.many").click();
    await page.waitForURL(/open=/);
    assert.ok((await page.locator(".item").count()) > folded);
    await page.locator(".segmented a", { hasText: "Timeline" }).click();
    assert.equal(await page.locator(".lane").count(), 11);
    await page.locator(".segmented a", { hasText: "Tree" }).click();
    assert.equal(await page.locator(".branch").count(), 11);
    await page.locator(`#t-${id}`).click();
    await reads(page.locator(".step-panel"), "Succeeded");
    await page.locator(".rollup a", { hasText: "failed" }).click();
    assert.equal(await page.locator(".branch").count(), 1);
  },
  { javaScriptEnabled: false },
);

visit("all of a run is cancelled after it was said how much that is", async (page) => {
  const { run } = await started({ leaf: 1, hold: 1 }, 3);
  await page.goto(`/runs/${run}`);
  await page.locator("#cancel > summary").click();
  await reads(page.locator("#cancel p"), "2 steps of this run have not ended");
  await page.locator("#cancel button").click();
  await reads(page.locator(".badge.big").first(), "Cancelled");
  assert.equal(path(page), `/runs/${run}`);
  agent.release();
});

visit("a run is paused and goes on, and what came of it meanwhile counts then", async (page) => {
  const { run } = await started({ leaf: 1, hold: 1 }, 3);
  await page.goto(`/runs/${run}`);
  await page.getByRole("button", { name: "Pause run" }).click();
  await page.getByRole("button", { name: "Resume 2 steps" }).waitFor();
  await reads(page.locator(".rollup"), "2 paused");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), [], colorScheme);
  }
  agent.release();
  await page.getByRole("button", { name: "Resume 2 steps" }).click();
  await reads(page.locator(".badge.big").first(), "Succeeded");
});

visit("seven pages of a run are open at once", async (first, context) => {
  const { run } = await started({ hold: 1 }, 2);
  const pages = [first, ...(await Promise.all(Array.from({ length: 6 }, () => context.newPage())))];
  for (const page of pages) {
    await page.goto(`/runs/${run}`);
    await live(page);
  }
  agent.release();
  for (const page of pages) {
    await reads(page.locator(".badge.big").first(), "Succeeded");
  }
});

const sizes = [
  { name: "a dozen steps", input: { leaf: 3, fail: 1, deep: 2, within: { leaf: 2 } } },
  { name: "300 steps", input: { deep: 20, within: { leaf: 6, deep: 2, within: { leaf: 2, fail: 1 } } } },
];
for (const { name, input } of sizes) {
  visit(`axe finds nothing to say about ${name}, and nothing runs over at 320 px`, async (page) => {
    const { id, run } = await ended(input);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const address of [
        "/runs",
        `/runs/${run}?view=graph&node=${id}`,
        `/runs/${run}?view=timeline&crit=1`,
        `/runs/${run}?view=tree`,
      ]) {
        await page.goto(address);
        assert.deepEqual(await axe(page), [], `${address} in ${colorScheme}`);
      }
    }
    await page.setViewportSize({ width: 320, height: 640 });
    for (const address of ["/runs", `/runs/${run}?view=graph&node=${id}`, `/runs/${run}?view=timeline`, `/runs/${run}?view=tree`]) {
      await page.goto(address);
      assert.equal(await overflow(page), 0, address);
    }
  });
}
