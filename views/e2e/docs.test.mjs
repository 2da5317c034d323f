// The guides in a real browser: readable in both themes, on a telephone, and without script.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { axe, startBrowser, visiting } from "./browser.mjs";
import { startServer } from "./server.mjs";

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 390, 320]) {
    test(`the guides hold in ${colorScheme} at ${width} px`, async () => {
      const options = { baseURL: server.base, colorScheme, viewport: { width, height: 800 } };
      await visiting(browser, `docs ${colorScheme} ${width}`, options, [], async (context) => {
        const page = await context.newPage();
        for (const path of ["/docs", "/docs/executions", "/docs/agents", "/docs/reference"]) {
          await page.goto(path);
          const long = path === "/docs/reference" && width !== 390; // a hundred tables of one kind: looked through once in each theme
          if (!long) assert.deepEqual(await axe(page), [], path);
          assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, `${path} is wider than the window`);
        }
      });
    });
  }
}

test("from the menu to a part of a guide, without script", async () => {
  await visiting(browser, "docs without script", { baseURL: server.base, javaScriptEnabled: false }, [], async (context) => {
    const page = await context.newPage();
    await page.goto("/");
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Docs" }).click();
    await page.getByRole("link", { name: "Webhooks", exact: true }).last().click();
    await page.getByRole("heading", { level: 1, name: "Webhooks" }).waitFor();
    await page.getByRole("navigation", { name: "On this page" }).getByRole("link", { name: "Advice" }).click();
    assert.equal(new URL(page.url()).hash, "#advice");
    await page.getByRole("link", { name: "This page as Markdown" }).click();
    assert.match(await page.locator("body").textContent(), /^# Webhooks/);
  });
});
