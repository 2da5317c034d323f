// The dashboard in a real browser against the real server. Tests cause things through the API, as agents and callers do, and look at
// what people see. They wait for states, never for time.
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
});

after(async () => {
  await browser?.close();
  await agent?.stop();
  await server?.stop();
});

/** A test with a visitor of its own; with no options it has one page open. */
function visit(name, body, { options, allow } = {}) {
  test(name, async () => {
    await visiting(browser, name, { baseURL: server.base, ...options }, allow, async (context) => body(await context.newPage(), context));
  });
}

const row = (page, id) => page.locator(`#row-${id}`);
const live = (page) => page.locator("#live[data-on]").waitFor();
const path = (page) => page.url().slice(server.base.length);

/** Opens a page and waits until it is live. */
async function open(page, url) {
  await page.goto(url);
  await live(page);
}

/** Waits until a locator has a text. */
const reads = (locator, text) => locator.filter({ hasText: text }).first().waitFor();

async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

visit("an empty server shows how to begin, with commands for this server, and follows the first steps", async (page) => {
  await open(page, "/");
  await reads(page.locator("h1"), "Three steps");
  const commands = await page.locator("pre").allTextContents();
  assert.equal(commands.length, 3);
  for (const command of commands) {
    assert.match(command, new RegExp(`^curl -X POST ${server.base}/api/v1/`));
  }
  assert.deepEqual(await axe(page), []);
  await page.goto("/executions");
  await reads(page.locator("h2"), "Nothing has run");
  assert.deepEqual(await axe(page), []);

  await open(page, "/");
  await api.register(agent, "greet", "fail", "hold");
  await page.locator(".steps .done").first().waitFor();
  const id = await api.submit("support-agent.greet", { name: "Ada" });
  await reads(page.locator("h1"), "Overview");
  await page.locator(`#recent-${id}`).waitFor();
});

visit("the overview counts what happens, and each number is a link to its list", async (page) => {
  const failed = await api.submit("support-agent.fail");
  const held = await api.submit("support-agent.hold");
  await api.ended(failed);
  await page.goto("/");
  await reads(page.locator(".needs a"), "failed or timed out in the last 24 h");
  await page.locator(`#failure-${failed}`).waitFor();
  await live(page);
  await reads(page.locator(".stats a", { hasText: "Running" }).locator(".num"), "1");
  await page.locator(".stats a", { hasText: "Running" }).click();
  assert.equal(path(page), "/executions?status=running");
  await row(page, held).waitFor();
  assert.equal(await page.locator("tr[id^=row-]").count(), 1);
  agent.release();
  await api.ended(held);
});

visit("one execution shows all that is known of it", async (page) => {
  const id = await api.submit("support-agent.greet", { name: "<b>Ada</b>", big: 2 ** 53 }, { "X-Session-ID": "s-1", "X-Actor-ID": "a-1" });
  await api.ended(id);
  await page.goto(`/executions/${id}`);
  await reads(page.locator(".badge.big"), "Succeeded");
  await reads(page.locator(".reason"), "Succeeded in");
  assert.deepEqual(JSON.parse(await page.locator("#result").textContent()), { greeting: "Hello, Ada!", tokens: 3 });
  assert.match(await page.locator("#input").textContent(), /"<b>Ada<\/b>"/);
  assert.equal(await page.locator("#input b").count(), 0);
  const history = await page.locator(".clock b").allTextContents();
  assert.deepEqual(
    history.map((text) => text.trim()).filter((text) => ["Queued", "Running", "Succeeded"].includes(text)),
    ["Queued", "Running", "Succeeded"],
  );
  assert.equal(await page.locator("#cancel").count(), 0);

  await page.locator("#curl > summary").click();
  await page.locator("#curl-async-fold > summary").click();
  const command = await page.locator("#curl-async").textContent();
  assert.match(command, new RegExp(`^curl -X POST ${server.base}/api/v1/execute/async/support-agent.greet`));
  assert.match(command, /-H 'X-Session-ID: s-1'/);

  await page.keyboard.press("Escape");
  await page.locator("dd a", { hasText: "s-1" }).click();
  assert.equal(path(page), "/executions?session=s-1");
  assert.equal(await page.locator("tr[id^=row-]").count(), 1);
});

visit("a failure says why, and what the agent said is only text", async (page) => {
  const id = await api.submit("support-agent.fail");
  await api.ended(id);
  await page.goto(`/executions/${id}`);
  await reads(page.locator(".reason.st-bad"), "answered 500");
  await reads(page.locator(".reason.st-bad"), "the model is overloaded <b>now</b>");
  assert.equal(await page.locator("article b", { hasText: "now" }).count(), 0);
  await page.goto("/executions?status=failed,timeout");
  await reads(row(page, id).locator(".why"), "overloaded");
});

visit("filters are in the address, survive Back and are removed one by one", async (page) => {
  await api.ended(await api.submit("support-agent.greet"));
  await page.goto("/executions");
  await page.locator(".tabs a", { hasText: "Failed" }).click();
  await page.waitForURL("**/executions?status=failed,timeout");
  await page.locator("[id=tab-Failed][aria-current]").waitFor();
  await page.locator("#f-target").fill("support-agent.fail");
  await page.locator("#f-target").press("Enter");
  await page.locator(".chip", { hasText: "target" }).waitFor();
  const both = new URL(page.url()).searchParams;
  assert.deepEqual([both.get("status"), both.get("target"), [...both.keys()].length], ["failed,timeout", "support-agent.fail", 2]);
  assert.deepEqual(new Set(await page.locator("tr .badge").allTextContents()), new Set(["Failed"]));

  await page.goBack();
  await page.waitForURL("**/executions?status=failed,timeout");
  await page.locator(".chip", { hasText: "target" }).waitFor({ state: "detached" });
  await page.locator(".rail").waitFor(); // the whole page, not only the fragment
  await page.goForward();
  await page.locator(".chip", { hasText: "target" }).waitFor();

  const rows = await page.locator("tr[id^=row-]").evaluateAll((all) => all.map((tr) => tr.id));
  await page.reload();
  assert.deepEqual(await page.locator("tr[id^=row-]").evaluateAll((all) => all.map((tr) => tr.id)), rows);
  await page.locator(".chip a[title='Remove the filter status']").click();
  await page.waitForURL((url) => !url.search.includes("status"));
  await page.locator("#f-target").fill("no-such-node.greet");
  await page.locator("#f-target").press("Enter");
  await reads(page.locator("h2"), "Nothing matches");
});

visit(
  "an unknown status is named, and the list is one step away",
  async (page) => {
    const answer = await page.goto("/executions?status=exploded&node=support-agent");
    assert.equal(answer.status(), 400);
    await reads(page.locator(".error-card"), "exploded");
    await page.locator(".error-card a", { hasText: "All executions" }).click();
    assert.equal(path(page), "/executions");
  },
  { allow: [/status of 400/] },
);

visit("rows change in place; focus, scroll and typed text stay", async (page) => {
  const id = await api.submit("support-agent.hold");
  await page.setViewportSize({ width: 1280, height: 420 });
  await open(page, "/executions");
  await row(page, id).locator("a.row-link").focus();
  await page.locator("#f-node").evaluate((field) => {
    field.value = "half typ";
  });
  const before = await page.evaluate(() => ({ y: scrollY, ids: [...document.querySelectorAll("tr[id]")].map((tr) => tr.id) }));
  agent.release();
  await page.locator(`#row-${id}.is-succeeded`).waitFor();
  const now = await page.evaluate(() => ({ y: scrollY, ids: [...document.querySelectorAll("tr[id]")].map((tr) => tr.id) }));
  assert.deepEqual(now, before);
  assert.equal(await page.evaluate(() => document.activeElement.closest("tr")?.id), `row-${id}`);
  assert.equal(await page.locator("#f-node").inputValue(), "half typ");
});

visit("new rows are counted, not inserted, and shown when asked for", async (page) => {
  await open(page, "/executions");
  const rows = await page.locator("tr[id^=row-]").count();
  const first = await api.submit("support-agent.greet");
  await reads(page.locator("#fresh a"), "1 new since");
  const second = await api.submit("support-agent.greet");
  await reads(page.locator("#fresh a"), "2 new since");
  assert.equal(await page.locator("tr[id^=row-]").count(), rows);
  await page.keyboard.press("n");
  await row(page, first).waitFor();
  await row(page, second).waitFor();
  await page.locator("#fresh a").waitFor({ state: "detached" });
});

visit("new rows outside the filter are not counted", async (page) => {
  await open(page, "/executions?status=failed");
  const other = await api.submit("support-agent.greet");
  await api.ended(other);
  const mine = await api.submit("support-agent.fail");
  await api.ended(mine);
  await reads(page.locator("#fresh a"), "1 new since");
});

visit("an execution is followed to its end, and what was opened stays open", async (page) => {
  const id = await api.submit("support-agent.hold");
  await open(page, `/executions/${id}`);
  await reads(page.locator(".badge.big"), "Running");
  await page.locator("#curl > summary").click();
  agent.release();
  await reads(page.locator(".badge.big"), "Succeeded");
  assert.equal(await page.locator("#curl[open]").count(), 1);
  await page.locator("#result").waitFor();
});

visit("cancelling asks first, keeps the reason, and is seen by others", async (page, context) => {
  const id = await api.submit("support-agent.hold");
  const other = await context.newPage();
  await open(other, "/executions");
  await open(page, `/executions/${id}`);
  await page.locator("#cancel > summary").click();
  await page.locator("#cancel input[name=reason]").fill("no longer needed");
  await page.locator("#cancel button").click();
  await reads(page.locator(".badge.big"), "Cancelled");
  await reads(page.locator(".reason"), "no longer needed");
  assert.equal(path(page), `/executions/${id}`);
  assert.equal((await api.get(id)).status, "cancelled");
  await other.locator(`#row-${id}.is-cancelled`).waitFor();
  agent.release();
});

visit(
  "without JavaScript everything can be read and done",
  async (page) => {
    const id = await api.submit("support-agent.hold");
    await page.goto("/");
    await page.locator("nav a", { hasText: "Executions" }).click();
    await page.locator("#f-target").fill("support-agent.hold");
    await page.locator("#f-status").selectOption("running");
    await page.locator("button", { hasText: "Apply" }).click();
    assert.equal(new URL(page.url()).searchParams.get("status"), "running");
    await row(page, id).locator("a.row-link").click();
    await reads(page.locator(".badge.big"), "Running");
    assert.equal(await page.locator(".js:visible").count(), 0);
    await page.locator("#cancel > summary").click();
    await page.locator("#cancel button").click();
    await reads(page.locator(".badge.big"), "Cancelled");

    await page.locator(".theme > summary").click();
    await page.locator("#theme button", { hasText: "Dark" }).click();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    assert.equal(path(page), `/executions/${id}`);
    await page.locator("#goto").fill(id.slice(0, -2));
    await page.locator("#goto").press("Enter");
    await reads(page.locator("article .id"), id);
    agent.release();
  },
  { options: { javaScriptEnabled: false } },
);

visit("the theme is chosen without a reload and known to the next page's first byte", async (page) => {
  await page.goto("/executions");
  await page.evaluate(() => {
    globalThis.sameDocument = true;
  });
  await page.locator(".theme > summary").click();
  await page.locator("#theme button", { hasText: "Dark" }).click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  assert.equal(await page.evaluate(() => globalThis.sameDocument), true);
  const html = await (await page.context().request.get("/")).text();
  assert.match(html, /<html[^>]* data-theme="dark"/);
  await page.locator(".theme > summary").click();
  await page.locator("#theme button", { hasText: "System" }).click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), null);
  assert.doesNotMatch(await (await page.context().request.get("/")).text(), /<html[^>]* data-theme/);
});

for (const colorScheme of ["light", "dark"]) {
  visit(
    `axe finds nothing on any page, ${colorScheme}`,
    async (page) => {
      const ids = await Promise.all(["greet", "fail", "hold"].map((name) => api.submit(`support-agent.${name}`)));
      await Promise.all(ids.slice(0, 2).map(api.ended));
      for (const url of ["/", "/executions", "/executions?status=failed&session=none", ...ids.map((id) => `/executions/${id}`)]) {
        await open(page, url);
        assert.deepEqual(await axe(page), [], url);
      }
      await page.locator("#curl > summary").click();
      assert.deepEqual(await axe(page), [], "the menu of commands");
      await page.locator("#cancel > summary").click();
      assert.deepEqual(await axe(page), [], "the question before cancelling");
      await page.keyboard.press("Escape");
      await page.keyboard.press("?");
      await page.locator("dialog.sheet[open]").waitFor();
      assert.deepEqual(await axe(page), [], "the sheet of keys");
      agent.release();
    },
    { options: { colorScheme } },
  );
}

visit("axe sees what is wrong when something is", async (page) => {
  await page.goto("/executions");
  await page.evaluate(() => {
    const main = document.querySelector("main");
    main.append(document.createElement("button"));
    const faint = document.createElement("p");
    faint.textContent = "hardly to be read";
    faint.style.color = "#bbb"; // through the object model, which the policy allows
    main.append(faint);
  });
  const found = (await axe(page)).join("\n");
  assert.match(found, /button-name/);
  assert.match(found, /color-contrast/);
});

visit(
  "the content security policy refuses inline script, inline style and evaluation",
  async (page) => {
    await page.goto("/executions");
    const violations = await page.evaluate(async () => {
      const seen = [];
      document.addEventListener("securitypolicyviolation", (event) => seen.push(event.violatedDirective));
      const script = document.createElement("script");
      script.textContent = "globalThis.ran = true";
      const style = document.createElement("style");
      style.textContent = "main { display: none }";
      document.head.append(script, style);
      await new Promise((resolve) => setTimeout(resolve));
      return { seen, ran: globalThis.ran === true };
    });
    assert.equal(violations.ran, false);
    assert.deepEqual(violations.seen.toSorted(), ["script-src-elem", "style-src-elem"]);
    const policy = (await page.request.get("/")).headers()["content-security-policy"];
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe/);
  },
  { allow: [/Content Security Policy/] },
);

for (const width of [320, 390]) {
  visit(
    `every page fits a screen of ${width} px`,
    async (page) => {
      const id = await api.submit("support-agent.fail", { text: "long ".repeat(80) });
      await api.ended(id);
      for (const url of ["/", "/executions", "/executions?node=support-agent&status=failed,timeout&since=24h", `/executions/${id}`]) {
        await open(page, url);
        assert.ok((await overflow(page)) <= 0, `${url} is ${await overflow(page)} px too wide`);
        const bar = await page.locator(".rail").boundingBox();
        assert.ok(bar.y > 600 && bar.width === width, "the navigation is a bar at the bottom");
      }
      await page.locator("#curl > summary").click();
      assert.ok((await overflow(page)) <= 0, "the menu is too wide");
      await page.locator(".rail a", { hasText: "Executions" }).click();
      await row(page, id).locator("a.row-link").click();
      await reads(page.locator(".badge.big"), "Failed");
    },
    { options: { viewport: { width, height: 740 }, hasTouch: true, isMobile: true } },
  );
}

visit("ten tabs share one stream, and another takes over when its tab is closed", async (first, context) => {
  const streams = new Set();
  context.on("request", (request) => {
    if (request.url().includes("/events")) streams.add(request);
  });
  context.on("requestfinished", (request) => streams.delete(request));
  context.on("requestfailed", (request) => streams.delete(request));
  const openStreams = () => [...streams].filter((request) => !request.frame().page().isClosed());
  const id = await api.submit("support-agent.hold");
  const tabs = [first];
  for (let i = 1; i < 10; i++) tabs.push(await context.newPage());
  for (const tab of tabs) await open(tab, "/executions");
  assert.equal(openStreams().length, 1);

  const leader = openStreams()[0].frame().page();
  await leader.close();
  const others = tabs.filter((tab) => tab !== leader);
  await Promise.all(others.map((tab) => tab.locator("#live[data-on]").waitFor()));
  agent.release();
  await Promise.all(others.map((tab) => tab.locator(`#row-${id}.is-succeeded`).waitFor()));
  assert.equal(openStreams().length, 1);
});

visit(
  "without a stream the page asks by itself and says so",
  async (page) => {
    const id = await api.submit("support-agent.hold");
    await page.route("**/events*", (route) => route.abort());
    await page.goto("/executions");
    await reads(page.locator("#live"), "Polling every 5 s");
    assert.equal(await page.locator("#live[data-on]").count(), 0);
    agent.release();
    await page.locator(`#row-${id}.is-succeeded`).waitFor();
    await page.unroute("**/events*");
    await live(page);
    await reads(page.locator("#live"), "Live");
  },
  { allow: [/Failed to load resource/] },
);

visit("live updates can be paused and resumed", async (page) => {
  const id = await api.submit("support-agent.hold");
  await open(page, "/executions");
  await page.locator(`#row-${id}.is-running`).waitFor();
  await page.keyboard.press(".");
  await reads(page.locator("#live"), "Paused by you");
  agent.release();
  await api.ended(id);
  assert.equal(await page.locator(`#row-${id}.is-running`).count(), 1);
  await page.locator("#live").click();
  await page.locator(`#row-${id}.is-succeeded`).waitFor();
});

visit("the keyboard drives it all, and keeps still while somebody types", async (page, context) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await api.ended(await api.submit("support-agent.greet"));
  await open(page, "/");
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await page.waitForURL("**/executions");
  await live(page);
  const focused = () => page.evaluate(() => document.activeElement.closest("tr")?.id);
  const ids = await page.locator("tr[id^=row-]").evaluateAll((all) => all.map((tr) => tr.id));
  await page.keyboard.press("j");
  assert.equal(await focused(), ids[0]);
  await page.keyboard.press("j");
  assert.equal(await focused(), ids[1]);
  await page.keyboard.press("k");
  assert.equal(await focused(), ids[0]);
  await page.keyboard.press("G");
  assert.equal(await focused(), ids.at(-1));
  await page.keyboard.press("g");
  await page.keyboard.press("g");
  assert.equal(await focused(), ids[0]);
  await page.keyboard.press("Y");
  await reads(page.locator("#toasts"), "Id copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), ids[0].slice("row-".length));

  await page.keyboard.press("/");
  await page.keyboard.type("g o j ? n");
  assert.equal(await page.locator("#f-q").inputValue(), "g o j ? n");
  assert.equal(path(page), "/executions");
  await page.locator("#f-q").fill("");
  await page.locator("#f-q").blur();

  await page.keyboard.press("?");
  await reads(page.locator("dialog.sheet"), "Overview");
  await page.keyboard.press("?");
  await page.locator("dialog.sheet:not([open])").waitFor({ state: "attached" });
  await page.keyboard.press("t");
  await reads(page.locator("#toasts"), "Times are in UTC");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/executions/${ids[0].slice("row-".length)}`);
  await page.keyboard.press("y");
  await reads(page.locator("#toasts"), "Link copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), page.url());
  await page.locator("#curl > summary").click();
  await page.keyboard.press("Escape");
  await page.locator("#curl:not([open])").waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("o");
  await page.waitForURL(`${server.base}/`);
});

visit("single keys can be turned off", async (page) => {
  await open(page, "/executions");
  await page.locator("#help").click();
  await page.locator("dialog.sheet input").uncheck();
  await page.locator("dialog.sheet button").click();
  await page.keyboard.press("?");
  await page.keyboard.press("j");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement === document.body || document.activeElement.id === "help"), true);
});

visit(
  "what does not exist is answered by a page that says what to do",
  async (page) => {
    const answer = await page.goto("/executions/exec_never");
    assert.equal(answer.status(), 404);
    await page.locator(".error-card").waitFor();
    await page.locator(".error-card a", { hasText: "All executions" }).click();
    assert.equal(path(page), "/executions");
  },
  { allow: [/status of 404/] },
);
