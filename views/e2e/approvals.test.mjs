// The reviewer's inbox in a real browser against the real server: agents ask through the API, people decide on the page.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { client, startServer } from "./server.mjs";

let server;
let browser;
let agent;
let api;

before(async () => {
  server = await startServer();
  api = client(server.base);
  agent = await startAsker("claims");
  await api.register(agent, "review", "refund");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await agent?.stop();
  await server?.stop();
});

/** An agent that takes every call with 202 and remembers the token with which it may speak for it. */
async function startAsker(id) {
  const waiting = new Map();
  const once = (execution) => {
    if (!waiting.has(execution)) {
      let tell;
      const token = new Promise((resolve) => {
        tell = resolve;
      });
      waiting.set(execution, { token, tell });
    }
    return waiting.get(execution);
  };
  const http = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      const execution = request.headers["x-execution-id"];
      if (execution) once(execution).tell(request.headers["x-execution-token"] ?? "");
      response.writeHead(execution ? 202 : 200, { "Content-Type": "application/json" });
      response.end(JSON.stringify(execution ? {} : { status: "running", node_id: id }));
    });
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  return {
    id,
    base: `http://127.0.0.1:${http.address().port}`,
    token: (execution) => once(execution).token,
    stop() {
      http.closeAllConnections();
      return new Promise((resolve) => http.close(resolve));
    },
  };
}

async function send(method, path, body, headers = {}) {
  const response = await fetch(server.base + path, {
    method,
    headers: { "Content-Type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path} was answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text);
}

/** An execution asks for a decision; hours says when it expires, and so where it stands in the queue. */
async function ask(request, { target = "claims.review", headers } = {}) {
  const execution = await api.submit(target, {}, headers);
  return again(execution, request);
}

/** The same execution asks for a decision, for the first time or once more. */
async function again(execution, { hours = 24, ...request }) {
  const token = await agent.token(execution);
  const asked = await send(
    "POST",
    `/api/v1/executions/${execution}/request-approval`,
    { expires_in_hours: hours, ...request },
    { "X-Execution-Token": token },
  );
  return { execution, id: asked.approval_id, request: asked.approval_request_id };
}

const status = ({ execution }, wait = "0s") => send("GET", `/api/v1/executions/${execution}/approval-status?wait=${wait}`);
const decideElsewhere = ({ request }, decision, feedback) =>
  send("POST", "/api/v1/webhooks/approval", { approval_request_id: request, decision, feedback });

/** Decides what is left over, so that each test begins with an empty queue. */
async function clear() {
  for (;;) {
    const { approvals } = await send("GET", "/api/v1/approvals");
    if (approvals.length === 0) return;
    for (const a of approvals) {
      if (a.status === "held") await status({ execution: a.execution_id }, "10s");
      else await send("POST", `/api/v1/approvals/${a.id}/decide`, { decision: "rejected", feedback: "tidied up", version: a.version });
    }
  }
}

/** A test with an empty queue and a visitor of its own. */
function visit(name, body, { options, allow } = {}) {
  test(name, async () => {
    await clear();
    await visiting(browser, name, { baseURL: server.base, ...options }, allow, async (context) => body(await context.newPage(), context));
  });
}

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const conflicts = [/status of 409/];
const faults = [/status of 422/];
const unknown = [/status of 404/];

const row = (page, asked) => page.locator(`#row-${asked.id}`);
const shows = (page, title) => page.locator("#item h2", { hasText: title }).waitFor();
const reason = (page) => page.locator("#item textarea[name=feedback]");
const path = (page) => page.url().slice(server.base.length);

async function open(page, url) {
  await page.goto(url);
  await page.locator("#live[data-on]").waitFor();
}

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

visit(
  "an empty queue says how an agent asks, and an unknown request is named",
  async (page) => {
    await open(page, "/approvals");
    await page.locator("#queue h2").first().waitFor();
    assert.deepEqual(await axe(page), []);
    await page.goto("/approvals/appr_nobody");
    await page.getByText("There is no such request").waitFor();
    assert.deepEqual(await axe(page), []);
  },
  { allow: unknown },
);

visit("a request shows all that helps to decide it, and the agent's words are only words", async (page) => {
  const payload = {
    claim: "12345",
    amount: 4200.5,
    payee: "<i>A. Example</i>",
    covers: ["water", "fire"],
    positions: [
      { item: "Floor", sum: 2220 },
      { item: "Drying", sum: 480 },
    ],
  };
  const first = await ask(
    { title: "Pay claim #12345", payload, risk: "medium" },
    { headers: { "X-Session-ID": "s-1", "X-Actor-ID": "ada" } },
  );
  await decideElsewhere(first, "request_changes", "The third room is dry.");
  const second = await again(first.execution, {
    title: "Pay claim #12345",
    description: "Reduced, see https://reports.example.com/88.\n<script>alert(1)</script> <b>bold</b>",
    payload: { ...payload, amount: 3850 },
    risk: "medium",
    next: "payments.transfer pays today.",
    hours: 0.1,
  });
  await open(page, `/approvals/${second.id}`);
  await shows(page, "Pay claim #12345");
  const item = page.locator("#item");
  for (const words of ["2nd round", "Medium risk", "From the agent", "Changed since round 1", "payments.transfer pays today.", "Round 1"]) {
    await item.getByText(words, { exact: false }).first().waitFor();
  }
  assert.equal(await item.locator(".said b, .said script, .kv i").count(), 0);
  assert.equal(await item.locator(".said a").getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(await item.locator(".said a").getAttribute("href"), "https://reports.example.com/88");
  assert.match(await item.locator(".diff").textContent(), /amount[\s\S]*4200\.5[\s\S]*3850/);
  assert.equal(await item.locator(".cells tbody tr").count(), 2);
  assert.match(await item.locator(".precedents").first().textContent(), /The third room is dry\./);
  assert.equal(await item.locator(`a[href="/executions/${first.execution}"]`).count(), 2);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), []);
  }
  await page.goto(`/approvals/${second.request}`);
  await shows(page, "Pay claim #12345");
});

// ready presses a key that leads to the reason box until it has: while an answer is on its way keys are not taken.
async function ready(page, key) {
  for (let tries = 0; tries < 20; tries++) {
    await page.keyboard.press(key);
    const there = page.waitForFunction(() => document.activeElement?.matches("textarea"), null, { timeout: 400 });
    if (
      await there.then(
        () => true,
        () => false,
      )
    )
      return;
  }
  throw new Error(`${key} never led to the reason box`);
}

visit("ten requests are decided by keyboard alone, one of them is undone", async (page) => {
  const all = [];
  for (let i = 0; i < 10; i++) {
    all.push(await ask({ title: `Number ${i}.`, payload: { [`n${i}`]: i }, risk: i === 7 ? "high" : "low", hours: 2 + i }));
  }
  await open(page, "/approvals");
  await shows(page, "Number 0.");
  await page.keyboard.press("j");
  await shows(page, "Number 1.");
  assert.equal(path(page), `/approvals/${all[1].id}`);
  await page.keyboard.press("k");
  await shows(page, "Number 0.");

  await page.keyboard.press("a");
  await shows(page, "Number 1.");
  await page.keyboard.press("a");
  await shows(page, "Number 2.");
  await page.keyboard.press("u");
  await shows(page, "Number 1.");
  assert.equal((await status(all[1])).status, "pending");
  await ready(page, "r");
  await page.keyboard.press("Control+Enter");
  await page.getByText("Say why first").waitFor();
  await page.keyboard.type("Not this one");
  await page.keyboard.press("Control+Enter");
  await shows(page, "Number 2.");
  await page.keyboard.press("c");
  await page.keyboard.type("Say more");
  await page.keyboard.press("Control+Enter");
  for (const next of [3, 4, 5, 6]) {
    await shows(page, `Number ${next}.`);
    await page.keyboard.press("a");
  }
  await shows(page, "Number 7.");
  await page.keyboard.press("a"); // high risk: only makes ready
  assert.equal(await reason(page).evaluate((box) => box === document.activeElement), true);
  assert.equal((await send("GET", `/api/v1/approvals/${all[7].id}`)).status, "pending");
  await page.keyboard.press("Control+Enter");
  for (const next of [8, 9]) {
    await shows(page, `Number ${next}.`);
    await page.keyboard.press("a");
  }
  await page.getByText("Nothing here waits for you").waitFor();

  const decided = [];
  for (const one of all) decided.push((await status(one, "10s")).status);
  assert.deepEqual(decided, ["approved", "rejected", "request_changes", ...Array(7).fill("approved")]);
  assert.equal((await status(all[1])).feedback, "Not this one");
  assert.equal((await status(all[2])).feedback, "Say more");
});

visit(
  "who comes second sees who was first, and keeps what was written",
  async (page) => {
    const contested = await ask({ title: "Contested", payload: { a: 1 }, hours: 1 });
    await page.goto(`/approvals/${contested.id}`);
    await page.evaluate(() => document.querySelector("#item").removeAttribute("data-live")); // the stream is slower than the race
    await reason(page).fill("I would rather not");
    await decideElsewhere(contested, "approved", "Looks right to me");
    await page.locator("button[value=rejected]").click();
    const panel = page.locator(".conflict");
    await panel.waitFor();
    assert.match(await panel.textContent(), /Already approved by .+ before you/);
    assert.match(await panel.textContent(), /Looks right to me/);
    assert.match(await panel.textContent(), /Yours, not sent: reject[\s\S]*I would rather not/);
    assert.deepEqual(await axe(page), []);
    assert.equal((await status(contested)).status, "approved");
  },
  { allow: conflicts },
);

visit("what others decide is said in place, what is new is only counted", async (page) => {
  const one = await ask({ title: "One", payload: { a: 1 }, hours: 1 });
  const two = await ask({ title: "Two", payload: { b: 1 }, hours: 2 });
  await open(page, "/approvals");
  await shows(page, "One");
  await page.title().then((title) => assert.match(title, /^\(2\) Approvals/));
  await decideElsewhere(two, "approved");
  await row(page, two).getByText("Approved by").waitFor();
  await decideElsewhere(one, "rejected", "No");
  await page.locator("#item .note", { hasText: "Rejected by" }).waitFor();
  assert.equal(await page.locator("#item button[value=approved]").count(), 0);
  const three = await ask({ title: "Three", payload: { c: 1 }, hours: 3 });
  await page.locator(".fresh", { hasText: "1 new since" }).waitFor();
  assert.equal(await row(page, three).count(), 0);
  await page.locator("#tab-pending .count", { hasText: "1" }).waitFor();
  await page.keyboard.press("n");
  await row(page, three).waitFor();
});

visit(
  "without JavaScript a decision is a form, and says what it lacks",
  async (page) => {
    const first = await ask({
      title: "By form",
      payload: { amount: 10 },
      editable: true,
      hours: 1,
      form: {
        type: "object",
        required: ["checked"],
        properties: { checked: { type: "boolean", title: "Account checked" }, limit: { type: "integer", minimum: 1, maximum: 20 } },
      },
    });
    const second = await ask({ title: "Then this", payload: { b: 1 }, hours: 2 });
    await page.goto("/approvals");
    await row(page, first).locator("a.row-link").click();
    await shows(page, "By form");
    await page.locator("button[value=rejected]").click();
    await page.locator("#item .problem").first().waitFor();
    assert.equal((await status(first)).status, "pending");
    await page.getByLabel("limit").fill("21");
    await page.getByLabel("Account checked").selectOption("true");
    await page.locator("button[value=approved]").click();
    await page.getByText("At most 20.").waitFor();
    await page.getByLabel("limit").fill("20");
    await page.locator("details.edit summary").click();
    await page.locator("textarea[name=edited]").fill('{"amount": 9}');
    await page.locator("button[value=approved]").click();
    await shows(page, "Then this");
    await page.locator("#done", { hasText: "Approved" }).waitFor();
    const decided = await status(first);
    assert.equal(decided.status, "approved");
    assert.deepEqual(decided.response, { checked: true, limit: 20 });
    await reason(page).fill("Please say which account");
    await page.locator("button[value=request_changes]").click();
    await page.getByText("The queue is clear").waitFor();
    assert.equal((await status(second)).feedback, "Please say which account");
  },
  { options: { javaScriptEnabled: false }, allow: faults },
);

visit(
  "on a phone there is one request on the screen, its buttons in reach",
  async (page) => {
    const first = await ask({ title: "First on the phone", description: "Short", payload: { a: "x".repeat(300) }, hours: 1 });
    const second = await ask({ title: "Second on the phone", payload: { b: 1 }, hours: 2 });
    await open(page, "/approvals");
    assert.equal(await page.locator("#item").isVisible(), false);
    assert.ok((await overflow(page)) <= 0);
    assert.deepEqual(await axe(page), []);
    await row(page, first).locator("a.row-link").click();
    await shows(page, "First on the phone");
    assert.equal(await page.locator(".entries").isVisible(), false);
    assert.ok((await overflow(page)) <= 0);
    const button = await page.locator("button[value=approved]").boundingBox();
    assert.ok(button.height >= 44 && button.y > 500 && button.y + button.height < 844, JSON.stringify(button));
    assert.deepEqual(await axe(page), []);
    await page.locator("button[value=approved]").click();
    await shows(page, "Second on the phone");
    await page.locator("#done button", { hasText: "Undo" }).click();
    await shows(page, "First on the phone");
    assert.equal((await status(first)).status, "pending");
    await page.goBack();
    await page.locator(".entries").waitFor();
    assert.equal((await status(second)).status, "pending");
  },
  { options: phone },
);

visit("looking changes nothing: links may be fetched ahead by anybody", async (page) => {
  const asked = await ask({ title: "Only look", payload: { a: 1 }, hours: 1 });
  await open(page, `/approvals/${asked.id}`);
  const links = await page.locator("main a[href^='/']").evaluateAll((all) => [...new Set(all.map((a) => a.getAttribute("href")))]);
  assert.ok(links.length > 5);
  const forms = await page.locator("main form").evaluateAll((all) => [...new Set(all.map((f) => f.getAttribute("action")))]);
  for (const href of [
    ...links,
    ...forms,
    `/approvals/bulk?ids=${asked.id}&decision=approved`,
    `/approvals/${asked.id}?decision=approved`,
  ]) {
    await fetch(server.base + href, { headers: { "Sec-Purpose": "prefetch", "Sec-Fetch-Site": "cross-site" }, redirect: "manual" });
  }
  const now = await send("GET", `/api/v1/approvals/${asked.id}`);
  assert.equal(now.status, "pending");
  assert.equal(now.version, 1);
});

visit("what is written survives a reload and another request, until it is discarded", async (page) => {
  const asked = await ask({ title: "Think about it", payload: { a: 1 }, hours: 1 });
  const other = await ask({ title: "Something else", payload: { b: 1 }, hours: 2 });
  await open(page, `/approvals/${asked.id}`);
  const saved = page.waitForResponse((response) => response.url().endsWith("/draft"));
  await reason(page).fill("Half a thought");
  await saved;
  await page.reload();
  assert.equal(await reason(page).inputValue(), "Half a thought");
  await page.getByText("restored").waitFor();
  await row(page, other).locator("a.row-link").click();
  await shows(page, "Something else");
  assert.equal(await reason(page).inputValue(), "");
  await page.goBack();
  await shows(page, "Think about it");
  assert.equal(await reason(page).inputValue(), "Half a thought");
  await page.locator("button", { hasText: "Discard" }).click();
  await page.locator(".draft").waitFor({ state: "detached" });
  assert.equal(await reason(page).inputValue(), "");
  await page.reload();
  assert.equal(await reason(page).inputValue(), "");
});

visit("an update of the same request keeps what is being written", async (page) => {
  const asked = await ask({ title: "Keep writing", payload: { a: 1 }, hours: 1 });
  await open(page, `/approvals/${asked.id}`);
  await reason(page).pressSequentially("In the middle");
  await page.locator("#item form[data-claiming] button", { hasText: "Claim" }).click();
  await page.locator("#item form[data-claiming] button", { hasText: "Yours" }).waitFor();
  assert.equal(await reason(page).inputValue(), "In the middle");
  await page.locator("#item h2").focus();
  await page.keyboard.press("m");
  await page.locator("#item form[data-claiming] button", { hasText: "Claim" }).waitFor();
  assert.equal(await reason(page).inputValue(), "In the middle");
});

visit("several are decided together after a look at what differs, high risk excepted", async (page) => {
  const refunds = [];
  for (let i = 0; i < 4; i++) {
    refunds.push(
      await ask({ title: `Refund ${i}`, payload: { order: 7000 + i, currency: "EUR" }, hours: 2 + i }, { target: "claims.refund" }),
    );
  }
  const risky = await ask({ title: "Risky", payload: { order: 1 }, risk: "high", hours: 1 });
  await open(page, "/approvals");
  await page.locator(".fold summary", { hasText: "3 more like this" }).waitFor();
  await shows(page, "Risky");
  await page.keyboard.press("x");
  await page.keyboard.press("j");
  await shows(page, "Refund 0");
  await page.keyboard.press("x");
  await page.locator(".fold summary").click();
  await row(page, refunds[1]).locator("input").check();
  await page.keyboard.press("A");
  await page.locator("h1", { hasText: "Decide 2 requests together" }).waitFor();
  assert.match(await page.locator("main").textContent(), /Left out: 1 request[\s\S]*Risky[\s\S]*High risk/);
  const heads = await page.locator(".cells th").allInnerTexts();
  assert.ok(heads.includes("order") && !heads.includes("currency"), heads.join());
  assert.deepEqual(await axe(page), []);
  await page.locator("button[value=approved]").click();
  await page.locator("h1", { hasText: "2 requests approved" }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.locator("button", { hasText: "Undo" }).first().click();
  await page.locator("#item h2").waitFor();
  const states = [];
  for (const one of refunds.slice(0, 2)) states.push((await send("GET", `/api/v1/approvals/${one.id}`)).status);
  assert.deepEqual(states.sort(), ["held", "pending"]);
  assert.equal((await status(risky)).status, "pending");
});

visit("filters and views are in the address", async (page) => {
  const high = await ask({ title: "High one", payload: { a: 1 }, risk: "high", hours: 3 });
  const low = await ask({ title: "Low one", payload: { b: 1 }, risk: "low", hours: 2 });
  await open(page, "/approvals");
  await row(page, low).waitFor();
  await page.locator("#f-risk").selectOption("high");
  await row(page, low).waitFor({ state: "detached" });
  await row(page, high).waitFor();
  assert.equal(path(page), "/approvals?risk=high");
  await page.locator("#views summary").click();
  await page.getByLabel("Save this view as").fill("Only high");
  await page.locator(".save button").click();
  await page.waitForURL(/view=/);
  await page.goto("/approvals");
  await page.locator("#views summary").click();
  await page.locator(".views a", { hasText: "Only high" }).click();
  await row(page, high).waitFor();
  assert.equal(await row(page, low).count(), 0);
  await page.locator("#views summary").click();
  await page.locator(".views button[title^='Delete']").click();
  await page.locator("#views summary").click();
  assert.equal(await page.locator(".views a").count(), 0);
  await page.keyboard.press("Escape");
  await page.locator("#tab-decided").click();
  await page.locator(".outcome").first().waitFor();
  assert.match(path(page), /^\/approvals\?state=decided/);
});

visit("the keys are all in the sheet, and do nothing while something is written", async (page) => {
  const asked = await ask({ title: "Typing", payload: { a: 1 }, hours: 1 });
  await open(page, `/approvals/${asked.id}`);
  await reason(page).pressSequentially("a r c u x");
  assert.equal(await reason(page).inputValue(), "a r c u x");
  assert.equal((await send("GET", `/api/v1/approvals/${asked.id}`)).status, "pending");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  const sheet = page.locator("dialog.sheet");
  await sheet.waitFor();
  for (const does of ["Approve", "Request changes", "Reject", "Undo", "Claim", "Select", "Skip"]) {
    await sheet.getByText(does).first().waitFor();
  }
  await page.keyboard.press("?");
  await page.keyboard.press("Enter");
  await page.waitForURL(/full=1/);
  assert.equal(await page.locator(".entries").isVisible(), false);
});
