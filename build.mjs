// Builds static/src into static/dist, which is committed and embedded: a checkout without node_modules builds with `go build`.
import { copyFile, mkdir, readdir, readFile, unlink } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const out = "static/dist";
// gzip: what every page loads, and what a page may load beside it
const budgets = { "app.js": 30 * 1024, "app.css": 10 * 1024, ".js": 4 * 1024, ".css": 5 * 1024 };
// loaded only by their pages
const own = [
  ...["execution.ts", "execution.css", "graph.ts", "timeline.ts", "runs.css", "lists.css", "palette.ts", "hints.ts"],
  ...["nodes.css", "functions.css", "webhooks.css", "docs.css", "seen.ts"],
];

const images = ["icons.svg", "favicon.svg"];

const options = {
  entryPoints: ["app.ts", "app.css", ...own].map((name) => `static/src/${name}`),
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome123", "firefox129", "safari17.5"],
  legalComments: "none",
  logLevel: "warning",
};

/** Copies what esbuild has nothing to do with. */
async function copyImages() {
  for (const name of images) {
    await copyFile(`static/src/${name}`, `${out}/${name}`);
  }
}

/** Removes what an older build left behind; what is current stays in place, because the Go build may be reading it. */
async function tidy() {
  const current = ["app.js", "app.css", ...own.map((name) => name.replace(".ts", ".js")), ...images];
  for (const name of await readdir(out)) {
    if (!current.includes(name)) {
      await unlink(`${out}/${name}`);
    }
  }
}

/** Fails when what the browser loads has outgrown its budget. */
async function weigh() {
  for (const name of await readdir(out)) {
    const budget = budgets[name] ?? budgets[name.slice(name.lastIndexOf("."))];
    if (budget === undefined) continue;
    const size = gzipSync(await readFile(`${out}/${name}`), { level: 9 }).length;
    console.log(`${name} ${(size / 1024).toFixed(1)} KB gzip of ${budget / 1024}`);
    if (size > budget) {
      throw new Error(`${name} weighs ${size} bytes gzip, the budget is ${budget}`);
    }
  }
}

if (process.argv.includes("--watch")) {
  await mkdir(out, { recursive: true });
  await copyImages();
  const context = await esbuild.context(options);
  await context.watch();
} else {
  await mkdir(out, { recursive: true });
  await esbuild.build(options);
  await copyImages();
  await tidy();
  await weigh();
}
