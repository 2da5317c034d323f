// The graph and the tree of a run, easier to move about in: drag to pan, Ctrl and wheel or + and − to zoom, arrows from step to step.
// The box scrolls and the steps are links without any of this; zooming only changes the size at which the drawing is shown, so that
// scrolling, touch and find-in-page stay the browser's own.

const box = () => document.querySelector<HTMLElement>("#canvas");
const drawing = () => document.querySelector<SVGSVGElement>("#canvas > svg");
const steps = () => [...document.querySelectorAll<HTMLElement>("#run [role=treeitem]")];
const level = (el?: Element) => Number(el?.getAttribute("aria-level"));

const smallest = 0.2;
const largest = 2;
let zoom = 1;

// Where the visitor was

const key = () => `agentfield-view:${document.querySelector<HTMLElement>("#run")?.dataset.pageId}`;
let saving: ReturnType<typeof setTimeout> | undefined;

function remember(): void {
  clearTimeout(saving);
  saving = setTimeout(rememberNow, 120);
}

function rememberNow(): void {
  const at = box();
  if (at) sessionStorage.setItem(key(), JSON.stringify({ zoom, x: at.scrollLeft, y: at.scrollTop }));
}

function restore(): boolean {
  const kept = JSON.parse(sessionStorage.getItem(key()) ?? "null") as { zoom: number; x: number; y: number } | null;
  const at = box();
  if (!kept || !at) return false;
  setZoom(kept.zoom);
  at.scrollTo(kept.x, kept.y);
  return true;
}

// Zoom

function size(): { width: number; height: number } {
  const { width, height } = drawing()?.viewBox.baseVal ?? { width: 1, height: 1 };
  return { width, height };
}

/** Zooms so that the given point of the box, its middle by default, stays where it is. */
function setZoom(to: number, x?: number, y?: number): void {
  const at = box();
  const svg = drawing();
  if (!at || !svg) return;
  const [px, py] = [x ?? at.clientWidth / 2, y ?? at.clientHeight / 2];
  const before = zoom;
  zoom = Math.min(largest, Math.max(smallest, to));
  const { width, height } = size();
  svg.style.width = `${width * zoom}px`;
  svg.style.height = `${height * zoom}px`;
  at.scrollLeft = ((at.scrollLeft + px) * zoom) / before - px;
  at.scrollTop = ((at.scrollTop + py) * zoom) / before - py;
  const shown = document.querySelector("#zoom");
  if (shown) shown.textContent = `${Math.round(zoom * 100)} %`;
  remember();
}

function fit(): void {
  const at = box();
  if (!at) return;
  const { width, height } = size();
  setZoom(Math.min(1, at.clientWidth / width, at.clientHeight / height));
  at.scrollTo(0, 0);
}

// Walking

/** One step of the tree is reached with Tab, the others from there. Without script each is. */
function rove(to?: HTMLElement): void {
  const all = steps();
  const at =
    to ?? all.find((step) => step === document.activeElement) ?? all.find((step) => step.matches("[aria-selected=true]")) ?? all[0];
  for (const step of all) {
    const index = step === at ? "0" : "-1";
    if (step.getAttribute("tabindex") !== index) step.setAttribute("tabindex", index);
  }
}

function go(to: HTMLElement | undefined): void {
  if (!to) return;
  rove(to);
  to.focus({ preventScroll: true });
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** Siblings stand on one level with nothing above it between them. */
function sibling(all: HTMLElement[], from: number, by: 1 | -1): HTMLElement | undefined {
  const own = level(all[from]);
  for (let i = from + by; all[i] && level(all[i]) >= own; i += by) {
    if (level(all[i]) === own) return all[i];
  }
  return all[from + by];
}

function parent(all: HTMLElement[], from: number): HTMLElement | undefined {
  return all.slice(0, from).findLast((step) => level(step) < level(all[from]));
}

function next(all: HTMLElement[], from: number, which: string): HTMLElement | undefined {
  const found = (step: HTMLElement) => step.matches(which);
  return all.slice(from + 1).find(found) ?? all.find(found);
}

const moves: Record<string, (all: HTMLElement[], from: number) => HTMLElement | undefined> = {
  ArrowDown: (all, from) => sibling(all, from, 1),
  ArrowUp: (all, from) => sibling(all, from, -1),
  ArrowRight: (all, from) => (all[from + 1] && level(all[from + 1]) > level(all[from]) ? all[from + 1] : undefined),
  ArrowLeft: parent,
  Home: (all) => all[0],
  End: (all) => all.at(-1),
  "!": (all, from) => next(all, from, ".is-failed, .is-timeout"),
  b: (all, from) => next(all, from, ".on-path"),
};

const zooms: Record<string, () => void> = {
  "+": () => setZoom(zoom * 1.25),
  "-": () => setZoom(zoom / 1.25),
  "0": fit,
};

function press(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.target as Element).closest("#canvas, .outline")) return;
  const move = moves[event.key];
  const run = zooms[event.key];
  if (!move && !run) return;
  event.preventDefault();
  event.stopPropagation();
  if (run) {
    run();
    return;
  }
  const all = steps();
  const from = all.indexOf(document.activeElement as HTMLElement);
  go(from < 0 ? all[0] : move?.(all, from));
}

// Dragging

function drag(event: PointerEvent): void {
  const at = box();
  if (!at || event.button !== 0 || event.pointerType !== "mouse" || !at.contains(event.target as Node)) return;
  const from = { x: event.clientX + at.scrollLeft, y: event.clientY + at.scrollTop };
  const start = { x: event.clientX, y: event.clientY };
  const move = (to: PointerEvent) => {
    if (Math.hypot(to.clientX - start.x, to.clientY - start.y) > 4) at.dataset.dragged = "";
    if (at.dataset.dragged !== undefined) at.scrollTo(from.x - to.clientX, from.y - to.clientY);
  };
  document.addEventListener("pointermove", move);
  document.addEventListener(
    "pointerup",
    () => {
      document.removeEventListener("pointermove", move);
      setTimeout(() => delete at.dataset.dragged); // after the click that ends the drag
    },
    { once: true },
  );
}

/** Links to this run in another state fetch and morph the page, so that nothing jumps; the link #go carries them. */
let wanted = "";

function follow(event: MouseEvent): void {
  const link = (event.target as Element).closest<HTMLAnchorElement>("#run a");
  const carrier = document.getElementById("go");
  if (!link || !carrier || link === carrier) return;
  if (box()?.dataset.dragged !== undefined) {
    event.preventDefault();
    return;
  }
  const to = new URL(link.getAttribute("href") ?? "", location.href);
  const elsewhere = to.origin !== location.origin || to.pathname !== location.pathname || link.hasAttribute("download");
  if (elsewhere || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return;
  event.preventDefault();
  wanted = to.pathname + to.search;
  carrier.click();
}

function start(): void {
  document.addEventListener("keydown", press, true);
  document.addEventListener("pointerdown", drag);
  document.addEventListener("click", follow);
  document.addEventListener("dragstart", (event) => {
    if (box()?.contains(event.target as Node)) event.preventDefault();
  });
  document.addEventListener("htmx:configRequest", (event) => {
    const { detail } = event as CustomEvent<{ elt: Element; path: string }>;
    if (detail.elt.id === "go") detail.path = wanted;
  });
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-zoom]");
    if (button) zooms[button.dataset.zoom ?? ""]?.();
  });
  document.addEventListener("scroll", (event) => event.target === box() && remember(), true);
  document.addEventListener(
    "wheel",
    (event) => {
      const at = box();
      if (!at?.contains(event.target as Node) || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      const { left, top } = at.getBoundingClientRect();
      setZoom(zoom * 1.0015 ** -event.deltaY, event.clientX - left, event.clientY - top);
    },
    { passive: false },
  );
  addEventListener("pagehide", rememberNow);
  arrive();
  rove();
  // A run that grows changes the size of its drawing, and choosing another view brings another box.
  let last = box();
  new MutationObserver(() => {
    if (box() !== last) {
      last = box();
      zoom = 1;
      arrive();
    } else if (drawing()?.style.width !== `${size().width * zoom}px`) {
      setZoom(zoom);
    }
    rove();
  }).observe(document.querySelector("#main") ?? document.body, { subtree: true, childList: true, attributeFilter: ["viewBox"] });
}

/** Shows what the visitor saw last, else the chosen step or the one that the run waits for. */
function arrive(): void {
  if (!box() || restore()) return;
  const goal = document.querySelector("#canvas [aria-selected=true]") ?? document.querySelector("#canvas .goal");
  const at = box();
  if (!goal || !at) return;
  const [its, own] = [goal.getBoundingClientRect(), at.getBoundingClientRect()];
  if (its.right > own.right || its.bottom > own.bottom) {
    const seen = Math.max(Math.min(own.height, innerHeight - own.top), 2 * its.height); // of the drawing, before the page is scrolled
    at.scrollTo(its.right - own.left - (own.width + its.width) / 2, its.bottom - own.top - (seen + its.height) / 2);
  }
}

start();
