// Builds static/src into static/dist, which is committed and embedded: a checkout without node_modules builds with `go build`.
import { copyFile, mkdir, readdir, readFile, unlink } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const out = "static/dist";
const budgets = { ".js": 30 * 1024, ".css": 10 * 1024 }; // gzip, all files of a kind together

const images = ["icons.svg", "favicon.svg"];

const options = {
  entryPoints: ["static/src/app.ts", "static/src/app.css"],
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
  const current = ["app.js", "app.css", ...images];
  for (const name of await readdir(out)) {
    if (!current.includes(name)) {
      await unlink(`${out}/${name}`);
    }
  }
}

/** Fails when what the browser loads has outgrown its budget. */
async function weigh() {
  const files = await readdir(out);
  for (const [kind, budget] of Object.entries(budgets)) {
    let sum = 0;
    for (const name of files.filter((file) => file.endsWith(kind))) {
      sum += gzipSync(await readFile(`${out}/${name}`), { level: 9 }).length;
    }
    console.log(`${kind} ${(sum / 1024).toFixed(1)} KB gzip of ${budget / 1024}`);
    if (sum > budget) {
      throw new Error(`${kind} files weigh ${sum} bytes gzip, the budget is ${budget}`);
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
