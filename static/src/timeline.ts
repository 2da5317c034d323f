// The timeline of a run with thousands of steps. Only the rows that can be seen are on the page; they are drawn from one compact
// answer of the server and used again as the box scrolls. Shorter timelines come whole from the server and need none of this.

interface Lanes {
  span: number; // ms that the width stands for
  targets: string[];
  statuses: { class: string; icon: string; label: string }[];
  rows: Row[];
}

/** execution id, target, status, level, marks (1 critical, 2 on the path, 4 dimmed), words of its time, then for each stretch its kind, beginning and length in ms */
type Row = [id: string, target: number, status: number, level: number, marks: number, took: string, ...spans: number[]];

const height = 28;
const spare = 8;
const kinds = ["t-queue", "t-run", "t-wait", "t-pause"];
const svgName = "http://www.w3.org/2000/svg";

let lanes: Lanes | null = null;
let shown = new Map<number, HTMLElement>();
let free: HTMLElement[] = [];
let frame = 0;
let version = "";

const grid = () => document.querySelector<HTMLElement>("#lanes[data-src]");
const body = () => grid()?.querySelector<HTMLElement>(".lanes-body") ?? null;

function part(tag: string, role: string, name: string): HTMLElement {
  const el = document.createElement(tag);
  if (role) el.setAttribute("role", role);
  if (name) el.className = name;
  return el;
}

function makeRow(): HTMLElement {
  const row = part("div", "row", "lane");
  const name = part("span", "gridcell", "");
  const icon = document.createElementNS(svgName, "svg");
  icon.setAttribute("class", "icon");
  icon.setAttribute("role", "img");
  icon.append(document.createElementNS(svgName, "use"));
  name.append(icon, part("a", "", ""));
  const bars = part("span", "gridcell", "");
  bars.append(document.createElementNS(svgName, "svg"));
  row.append(name, bars, part("span", "gridcell", ""));
  return row;
}

function fill(row: HTMLElement, index: number, data: Lanes): void {
  const [id, target, status, level, marks, took, ...spans] = data.rows[index] as Row;
  const look = data.statuses[status] as Lanes["statuses"][number];
  const name = data.targets[target] as string;
  row.className = `lane ${look.class}${marks & 1 ? " crit" : ""}${marks & 2 ? " on-path" : ""}${marks & 4 ? " dim" : ""}`;
  row.id = `s-${id}`;
  row.setAttribute("aria-rowindex", String(index + 1));
  row.setAttribute("aria-level", String(level));
  row.style.top = `${index * height}px`;
  const link = row.querySelector("a") as HTMLAnchorElement;
  const query = new URLSearchParams(location.search);
  row.setAttribute("aria-selected", String(query.get("node") === id));
  query.set("node", id);
  link.href = `?${query}`;
  const [node, own] = split(name);
  link.replaceChildren(Object.assign(part("i", "", ""), { textContent: node }), own);
  (row.querySelector(".icon") as SVGSVGElement).setAttribute("aria-label", look.label);
  (row.querySelector("use") as SVGUseElement).setAttribute("href", `#i-${look.icon}`);
  (row.lastElementChild as HTMLElement).textContent = took;
  const svg = row.querySelector(":nth-child(2) > svg") as SVGSVGElement;
  for (let i = 0; i < spans.length; i += 3) {
    const rect = svg.children[i / 3] ?? svg.appendChild(document.createElementNS(svgName, "rect"));
    rect.setAttribute("class", kinds[spans[i] ?? 1] ?? "");
    rect.setAttribute("x", `${(100 * (spans[i + 1] ?? 0)) / data.span}%`);
    rect.setAttribute("width", `${Math.max(0.15, (100 * (spans[i + 2] ?? 0)) / data.span)}%`);
  }
  while (svg.children.length > spans.length / 3) svg.lastChild?.remove();
}

function split(target: string): [string, string] {
  const dot = target.indexOf(".") + 1;
  return [target.slice(0, dot), target.slice(dot)];
}

/** Brings the rows that can be seen onto the page. Those that have left are used again; the one with the focus stays. */
function draw(): void {
  frame = 0;
  const at = grid();
  const into = body();
  if (!at || !into || !lanes) return;
  const first = Math.max(0, Math.floor(at.scrollTop / height) - spare);
  const last = Math.min(lanes.rows.length - 1, Math.ceil((at.scrollTop + at.clientHeight) / height) + spare);
  for (const [index, row] of shown) {
    if ((index < first || index > last) && !row.contains(document.activeElement)) {
      shown.delete(index);
      free.push(row);
    }
  }
  for (let index = first; index <= last; index++) {
    if (shown.has(index)) continue;
    const row = free.pop() ?? into.appendChild(makeRow());
    fill(row, index, lanes);
    shown.set(index, row);
  }
  for (const row of free.splice(0)) row.remove();
}

function soon(): void {
  if (frame === 0) frame = requestAnimationFrame(draw);
}

async function load(): Promise<void> {
  const at = grid();
  const into = body();
  if (!at?.dataset.src || !into) return;
  version = at.dataset.version ?? "";
  const response = await fetch(at.dataset.src, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) return; // what the server has drawn stays
  lanes = (await response.json()) as Lanes;
  if (!at.dataset.virtual) {
    at.dataset.virtual = "true";
    into.replaceChildren();
    shown = new Map();
    free = [];
  }
  into.style.height = `${lanes.rows.length * height}px`;
  at.setAttribute("aria-rowcount", String(lanes.rows.length));
  for (const [index, row] of shown) {
    if (index < lanes.rows.length) fill(row, index, lanes);
  }
  draw();
}

const kept = () => `agentfield-lanes:${location.pathname}`;

async function arrive(): Promise<void> {
  await load();
  const at = grid();
  if (!at || !lanes) return;
  const before = sessionStorage.getItem(kept());
  const chosen = new URLSearchParams(location.search).get("node");
  const index = chosen ? lanes.rows.findIndex((row) => row[0] === chosen) : -1;
  if (before !== null) at.scrollTop = Number(before);
  else if (index >= 0) at.scrollTop = Math.max(0, index * height - at.clientHeight / 2);
}

function move(event: KeyboardEvent): void {
  const at = grid();
  const row = (event.target as Element).closest<HTMLElement>(".lane");
  const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity }[event.key];
  if (!at?.contains(row) || !row || by === undefined) return;
  event.preventDefault();
  const count = lanes?.rows.length ?? at.querySelectorAll(".lane").length;
  const index = Math.min(count - 1, Math.max(0, Number(row.getAttribute("aria-rowindex")) - 1 + by));
  if (index * height < at.scrollTop) at.scrollTop = index * height;
  else if ((index + 2) * height > at.scrollTop + at.clientHeight) at.scrollTop = (index + 3) * height - at.clientHeight;
  draw();
  at.querySelector<HTMLElement>(`[aria-rowindex="${index + 1}"] a`)?.focus({ preventScroll: true });
}

// The order matters: choosing another step or filter changes the address before the page's fragment arrives.
document.addEventListener("keydown", move);
document.addEventListener(
  "scroll",
  (event) => {
    if (event.target !== grid()) return;
    soon();
    sessionStorage.setItem(kept(), String(grid()?.scrollTop));
  },
  true,
);
addEventListener("resize", soon);
new MutationObserver(() => {
  const at = grid();
  if (at && (at.dataset.version !== version || !at.dataset.virtual)) void load();
}).observe(document.querySelector("#main") ?? document.body, { subtree: true, childList: true, attributeFilter: ["data-version"] });
void arrive();
