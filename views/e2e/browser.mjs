// One browser for all tests, and for each test a fresh visitor whose every error is collected: violations of the content security
// policy arrive as console errors, and answers of 500 or more count as well.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const axeSource = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const failures = ".cache/e2e";

export function startBrowser() {
  const executablePath = places.find((path) => path && existsSync(path));
  assert.ok(executablePath, "no Chromium was found: install it, or name it in CHROMIUM");
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

async function visitor(browser, options = {}, allow = []) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(8000);
  await context.tracing.start({ snapshots: true });
  const errors = [];
  context.on("page", (page) => {
    page.on("pageerror", (error) => errors.push(`${page.url()}: ${error.stack}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !allow.some((pattern) => pattern.test(message.text()))) {
        errors.push(`${page.url()}: ${message.text()} ${message.location().url}`);
      }
    });
    page.on("response", (response) => {
      if (response.status() >= 500) errors.push(`${response.url()} was answered ${response.status()}`);
    });
  });
  return { context, errors };
}

async function leave({ context, errors }, name, failed) {
  const keep = failed || errors.length > 0;
  if (keep) await mkdir(failures, { recursive: true });
  await context.tracing.stop(keep ? { path: `${failures}/${name.replaceAll(/\W+/g, "-")}.zip` } : undefined);
  await context.close();
  assert.deepEqual(errors, []);
}

/**
 * One visit with a fresh context: nothing may go wrong in it, and a trace is kept of one that failed. Options are those of the
 * browser; allow lists console errors that the test provokes on purpose.
 */
export async function visiting(browser, name, options, allow, body) {
  const v = await visitor(browser, options, allow);
  let failed = true;
  try {
    await body(v.context);
    failed = false;
  } finally {
    await leave(v, name, failed);
  }
}

/**
 * What axe has against the page, one line for each rule and place. The debugger is not bound by the page's policy. Colours count
 * only at rest: not in a region that is dimmed while it waits for the server, nor half way between two themes.
 */
export async function axe(page) {
  await page.waitForFunction(() => !document.querySelector(".htmx-request") && document.getAnimations().length === 0);
  await page.evaluate(axeSource);
  const result = await page.evaluate(() =>
    globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  return result.violations.flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.html.slice(0, 200)}`));
}
