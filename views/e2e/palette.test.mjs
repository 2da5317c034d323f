// The colours that are shipped: readable on every ground they stand on, and told apart by people with any kind of colour vision.
// Contrast as in WCAG 2; vision by the matrices of Machado, Oliveira and Fernandes (2009) at full severity; distance as in CIE 1976.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const families = ["run", "wait", "ok", "bad", "idle"];
const leastContrast = 4.5;
const leastDistance = 20;

const vision = {
  normal: null,
  protan: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deutan: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritan: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

function linear(colour) {
  return [1, 3, 5]
    .map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
}

function luminance(colour) {
  const [r, g, b] = linear(colour);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function seen(colour, matrix) {
  const rgb = linear(colour);
  if (!matrix) return rgb;
  return matrix.map((row) => Math.min(1, Math.max(0, row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2])));
}

function lab([r, g, b]) {
  const f = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

function distance(a, b, matrix) {
  const [p, q] = [lab(seen(a, matrix)), lab(seen(b, matrix))];
  return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

/** Reads the tokens of the form --name: light-dark(#rrggbb, #rrggbb). */
async function tokens() {
  const css = await readFile(new URL("../../static/src/css/tokens.css", import.meta.url), "utf8");
  const found = css.matchAll(/--([\w-]+)\s*:\s*light-dark\(\s*(#[0-9a-f]{6})\s*,\s*(#[0-9a-f]{6})\s*\)/gi);
  return new Map([...found].map(([, name, light, dark]) => [name, { light, dark }]));
}

for (const theme of ["light", "dark"]) {
  test(`palette, ${theme}`, async () => {
    const all = await tokens();
    const colour = (name) => {
      assert.ok(all.has(name), `there is no token --${name}`);
      return all.get(name)[theme];
    };
    const readable = (text, ground, least = leastContrast) => {
      const c = contrast(colour(text), colour(ground));
      assert.ok(c >= least, `--${text} on --${ground} has a contrast of ${c.toFixed(2)}, not ${least}`);
    };
    for (const family of families) {
      for (const ground of ["bg", "bg-2", `st-${family}-bg`]) {
        readable(`st-${family}`, ground);
        readable("text-2", ground);
        readable("text", ground);
      }
    }
    readable("accent", "bg");
    readable("accent", "st-run-bg");
    readable("on-accent", "accent");
    readable("line-ctl", "bg", 3);
    readable("line-ctl", "bg-2", 3);
    for (const [i, a] of families.entries()) {
      for (const b of families.slice(0, i)) {
        for (const [kind, matrix] of Object.entries(vision)) {
          const d = distance(colour(`st-${a}`), colour(`st-${b}`), matrix);
          assert.ok(d >= leastDistance, `--st-${a} and --st-${b} are ${d.toFixed(1)} apart in ${kind} vision, not ${leastDistance}`);
        }
      }
    }
  });
}

test("palette, the check itself", () => {
  assert.ok(Math.abs(contrast("#000000", "#ffffff") - 21) < 0.01);
  assert.ok(contrast("#8a8a8a", "#ffffff") < leastContrast);
  assert.ok(distance("#c62828", "#2e7d32", null) > leastDistance);
  assert.ok(distance("#a0522d", "#6b6b2a", vision.deutan) < leastDistance);
});
