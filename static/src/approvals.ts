// The reviewer's inbox. Links and forms do everything without this file; it moves from request to request without leaving the page,
// keeps what is typed, holds a decision for a moment so that it can be undone, and follows what others decide.
import { ask, elements, morph, refreshWith } from "./live";
import { now, readHeaderClock, tick } from "./time";
import { announce, toast } from "./toast";

const find = <T extends HTMLElement>(selector: string) => document.querySelector<T>(selector);
const inbox = () => find("#inbox");
const item = () => find("#item");
const itemID = () => item()?.dataset.liveId ?? "";
const decision = () => find<HTMLFormElement>("form[data-decide], form[data-bulk]");
const box = (form: HTMLFormElement) => form.elements.namedItem("feedback") as HTMLTextAreaElement;

// From request to request

/** The rows that can be seen, not those of a closed group. */
const rows = () => [...document.querySelectorAll<HTMLAnchorElement>("a[data-open]")].filter((row) => !row.closest("details:not([open])"));
const place = (list: HTMLAnchorElement[]) => list.findIndex((row) => row.closest("[data-row]")?.id === `row-${itemID()}`);

function post(url: string, body: URLSearchParams): Promise<Response> {
  return fetch(url, { method: "POST", body, keepalive: true, redirect: "manual", headers: { "HX-Request": "true" } });
}

let busy = false;

/** Asks for a request, or sends a form that answers with one, and shows it. Reports whether the answer was shown and no refusal. */
async function load(url: string, body?: URLSearchParams, push = false, anew = false): Promise<boolean> {
  if (busy) return false;
  busy = true;
  flush();
  letGo(body);
  inbox()?.classList.add("htmx-request");
  try {
    const headers = { "HX-Request": "true", "HX-Target": "item" };
    const response = await fetch(url, { method: body ? "POST" : "GET", headers, cache: "no-store", ...(body && { body }) });
    readHeaderClock(response);
    const html = await response.text();
    if (!(response.ok || response.status === 409 || response.status === 422)) {
      toast(`The server answered ${response.status}. What you wrote is still here.`);
      return false;
    }
    const before = itemID();
    if (put(html, anew)) follow(push, before);
    else location.assign(response.url); // another page, such as the one to sign in
    return response.ok;
  } catch {
    toast("The server cannot be reached. What you wrote is still here.");
    return false;
  } finally {
    busy = false;
    inbox()?.classList.remove("htmx-request");
  }
}

/** Puts an answer on the page, anew without what is typed. Reports whether it was one. */
function put(html: string, anew = false): boolean {
  const parts = elements(html);
  const next = parts.find((part) => part.id === "item") as HTMLElement | undefined;
  const old = item();
  if (!next || !old) return false;
  if (itemID() === next.dataset.liveId && !anew) keep(old, next);
  morph(old, next);
  const done = parts.find((part) => part.id === "done");
  const strip = find("#done");
  if (done && strip) morph(strip, done);
  tick();
  due();
  look();
  return true;
}

/** The address and the list follow the request that is shown. */
function follow(push: boolean, before: string): void {
  const id = itemID();
  const to = item()?.dataset.href ?? `/approvals?${inbox()?.dataset.place ?? ""}`;
  const moved = before !== id || inbox()?.dataset.named === undefined;
  history[push ? "pushState" : "replaceState"]({ htmx: true }, "", to);
  inbox()?.toggleAttribute("data-named", id !== "");
  if (!moved) return;
  for (const row of document.querySelectorAll("a[data-open][aria-current]")) row.removeAttribute("aria-current");
  const row = find(`#row-${CSS.escape(id)} a[data-open]`);
  row?.setAttribute("aria-current", "true");
  row?.closest("details")?.setAttribute("open", "");
  row?.scrollIntoView({ block: "nearest" });
  item()?.scrollTo(0, 0);
  if (matchMedia("(width < 900px)").matches) scrollTo(0, 0);
  find("#item h2")?.focus({ preventScroll: true });
}

/** What is typed and not yet with the server stays when the same request is drawn again. */
function keep(old: HTMLElement, next: HTMLElement): void {
  const form = old.querySelector<HTMLFormElement>("form[data-decide]");
  for (const field of form?.elements ?? []) {
    const twin = field.id ? next.querySelector(`#${CSS.escape(field.id)}`) : null;
    if (twin && "value" in field && "value" in twin) twin.value = field.value;
  }
  const fight = old.querySelector(".conflict");
  if (fight && !next.querySelector(".conflict")) next.querySelector(".main-side")?.prepend(fight.cloneNode(true));
  const armed = form?.dataset.armed;
  if (armed) next.querySelector("form[data-decide]")?.setAttribute("data-armed", armed);
}

/** Opens the next or the previous request of the list. Reports whether there is a list to move in. */
export function step(by: number): boolean {
  if (!inbox()) return false;
  const list = rows();
  const next = list[place(list) + by];
  if (next) void load(next.href);
  else toast(by > 0 ? "That was the last one on this page" : "This is the first one");
  return true;
}

// Deciding

function say(form: HTMLFormElement, text: string): void {
  const line = form.querySelector(".say");
  if (line) line.textContent = text;
}

/** Makes ready to send: the reason is written first, then the button or Ctrl Enter. */
function arm(form: HTMLFormElement, button: HTMLButtonElement): void {
  form.dataset.armed = button.value;
  const word = form.querySelector("[data-armed-word]");
  if (word) word.textContent = button.dataset.verb ?? "";
  box(form).focus();
}

function decide(value: string): void {
  const form = decision();
  const button = form?.querySelector<HTMLButtonElement>(`button[value=${value}]`);
  if (!form || !button || button.disabled) return;
  if (value === "approved" && form.dataset.risk !== "high" && form.dataset.decide !== undefined) form.requestSubmit(button);
  else arm(form, button);
}

/** What the form sends. The proposal goes along only if it was opened to be edited. */
function filled(form: HTMLFormElement, submitter?: HTMLElement | null): URLSearchParams {
  const data = new URLSearchParams(new FormData(form, submitter) as unknown as Record<string, string>);
  if (!item()?.querySelector("details.edit[open]")) data.delete("edited");
  return data;
}

async function submit(event: SubmitEvent): Promise<void> {
  const form = event.target as HTMLFormElement;
  const { decide, bulk, undo, claiming, discard, hold } = form.dataset;
  if ([decide, bulk, undo, claiming, discard].every((mark) => mark === undefined)) return;
  const button = event.submitter as HTMLButtonElement | null;
  if (decide !== undefined || bulk !== undefined) {
    if (button && button.value !== "approved" && box(form).value.trim() === "") {
      event.preventDefault();
      arm(form, button);
      say(form, "Say why first: the agent reads it.");
      return;
    }
    if (bulk !== undefined) {
      if (Number(hold) > 0) form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "hold", value: "1" }));
      return;
    }
  }
  event.preventDefault();
  const body = filled(form, button);
  if (decide === undefined) {
    const id = itemID();
    if (claiming !== undefined) own = id; // whoever claims or gives back by hand is not second-guessed
    if (discard !== undefined) unsaved = null;
    if ((await load(form.action, body, false, discard !== undefined)) && undo !== undefined) find("#done")?.replaceChildren();
    return;
  }
  if (Number(hold) > 0) body.set("hold", "1");
  const list = rows();
  const after = list.slice(place(list) + 1).find((row) => row.closest(".is-pending"));
  if (after) body.set("then", after.closest<HTMLElement>("[data-row]")?.dataset.row ?? "");
  const decided = itemID();
  unsaved = null; // the decision takes the draft's place
  if (await load(form.action, body)) {
    announce(`${button?.dataset.verb}: done. ${find("#item h2")?.textContent ?? "Nothing else waits."}`);
    void refreshRows([decided]);
  } else if (decided === itemID()) {
    find("#item [role=alert]:not(:empty)")?.scrollIntoView({ block: "nearest" });
  }
}

// Drafts

let unsaved: HTMLFormElement | null = null;
let saving: ReturnType<typeof setTimeout> | undefined;

function draft(form: HTMLFormElement): [url: string, body: URLSearchParams] {
  const typed = filled(form);
  for (const [name, value] of [...typed]) {
    if (value === "" || /^(version|next|decision)$/.test(name)) typed.delete(name);
  }
  return [form.dataset.draft ?? "", new URLSearchParams({ text: typed.toString() })];
}

async function save(): Promise<void> {
  clearTimeout(saving);
  const form = unsaved;
  if (!form) return;
  unsaved = null;
  const saved = await post(...draft(form)).catch(() => null);
  if (!saved || (!saved.ok && saved.type !== "opaqueredirect")) unsaved ??= form; // the next key, or leaving, tries again
}

function flush(): void {
  clearTimeout(saving);
  if (unsaved) navigator.sendBeacon(...draft(unsaved));
  unsaved = null;
}

// Who is looking

let looked = ""; // the request that was claimed because it was open for a while
let own = ""; // the one whose claim the visitor has in hand
let looking: ReturnType<typeof setTimeout> | undefined;

function look(): void {
  clearTimeout(looking);
  const id = itemID();
  const open = item()?.dataset.claim; // nobody's: empty
  if (open === undefined || (open !== "" && looked !== id)) return;
  looking = setTimeout(
    () => {
      if (document.visibilityState === "visible" && id === itemID() && own !== id) {
        looked = id;
        void post(`/approvals/${id}/claim`, new URLSearchParams({ soft: "1" })).catch(() => {});
      }
      look();
    },
    looked === id ? 300_000 : 5000,
  );
}

/** Gives back what was claimed by looking. A decision does so by itself. */
function letGo(body?: URLSearchParams): void {
  clearTimeout(looking);
  if (looked && own !== looked && !body) {
    navigator.sendBeacon(`/approvals/${looked}/release`, new URLSearchParams({ soft: "1" }));
  }
  looked = "";
}

// Live

async function refreshRows(ids: string[]): Promise<void> {
  if (ids.length === 0) return;
  for (const next of elements(await ask(`/approvals/rows?ids=${ids.join(",")}&${inbox()?.dataset.place}`))) {
    const row = document.getElementById(next.id);
    if (!row) continue;
    const picked = next.querySelector<HTMLInputElement>("input");
    if (picked) picked.checked = row.querySelector<HTMLInputElement>("input")?.checked ?? false;
    if (row.querySelector("[aria-current]")) next.querySelector("a[data-open]")?.setAttribute("aria-current", "true");
    morph(row, next);
  }
  due();
}

async function refreshQueue(queue: HTMLElement, ids?: string[]): Promise<void> {
  const shown = [...queue.querySelectorAll<HTMLElement>("[data-row]")].map((row) => row.dataset.row ?? "");
  await refreshRows(ids ? shown.filter((id) => ids.includes(id)) : shown);
  if (queue.dataset.later !== undefined) return; // only the first page can have newer ones
  for (const next of elements(await ask(`/approvals/fresh?at=${queue.dataset.at}&${inbox()?.dataset.place}`))) {
    const old = document.getElementById(next.id);
    if (old) morph(old, next);
  }
}

async function refreshItem(): Promise<void> {
  const href = item()?.dataset.href;
  if (!href) return;
  await save();
  if (!busy) put(await ask(href, "item"));
}

async function refreshBadge(badge: HTMLElement): Promise<void> {
  const next = elements(await ask("/approvals/badge", badge.id))[0];
  if (!next) return;
  morph(badge, next);
  const count = next.firstChild?.textContent?.trim();
  if (inbox()) document.title = (count ? `(${count}) ` : "") + document.title.replace(/^\([\d,]+\) /, "");
}

/** What has run out says so, without waiting for the server. */
function due(): void {
  const at = now();
  for (const el of document.querySelectorAll<HTMLElement>("[data-due]")) {
    const left = Number(el.dataset.due) - at;
    if (el.dataset.haste) el.dataset.haste = left < 600_000 ? "now" : left < 3_600_000 ? "soon" : "later";
    if (left > 0 === (el.dataset.over === undefined)) continue;
    el.toggleAttribute("data-over", left <= 0);
    if (left <= 0 && el.matches(".just-done")) setTimeout(() => el.remove(), 3000);
    if (left <= 0 && el.closest("#item .verdict")) setTimeout(() => void refreshItem().catch(() => {}), 500);
  }
}

// Keys, for the table of keys.ts

const press = (selector: string) => () => {
  const form = find(selector);
  if (form instanceof HTMLFormElement) form.requestSubmit();
  else form?.click();
};

function select(): void {
  const row = document.activeElement?.closest("[data-row]") ?? document.getElementById(`row-${itemID()}`);
  row?.querySelector<HTMLInputElement>("input")?.click();
}

function selected(): void {
  if (find(".pick :checked")) press(".pick")();
  else toast("Select some with x first");
}

export const approvalKeys = [
  { press: "a", does: "Approve; with high risk the reason first", run: () => decide("approved") },
  { press: "c", does: "Request changes: write the reason", run: () => decide("request_changes") },
  { press: "r", does: "Reject: write the reason", run: () => decide("rejected") },
  { press: "Ctrl Enter", does: "Send" },
  { press: "u", does: "Undo the decision, while it is held", run: press("#item form[data-undo], #done form[data-undo]") },
  { press: "m", does: "Claim it or give it back", run: press("#item form[data-claiming]") },
  { press: "x", does: "Select it", run: select },
  { press: "A", does: "Decide the selected ones together", run: selected },
  { press: "z", does: "Skip it", run: () => void step(1) },
  { press: "Enter", does: "Full width, or the queue beside it" },
];

function keydown(event: KeyboardEvent): void {
  if (event.key !== "Enter" || event.isComposing) return;
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey) {
    const form = decision();
    if (!form || ("form" in target && target.form !== form)) return;
    const button = form.querySelector<HTMLButtonElement>(`button[value="${form.dataset.armed}"]`);
    if (button) form.requestSubmit(button);
    else say(form, "Choose a button first, or press Esc and then a, c or r.");
  } else if (target === document.body || target.matches("#item h2")) {
    find("[data-width]")?.click();
  }
}

export function startApprovals(): void {
  refreshWith("badge-approvals", refreshBadge);
  if (!inbox() && !find(".bulk")) return;
  refreshWith("queue", (queue, changes) =>
    refreshQueue(
      queue,
      changes?.map((change) => change.id),
    ),
  );
  refreshWith("item", refreshItem);
  document.addEventListener("submit", (event) => void submit(event));
  document.addEventListener("keydown", keydown);
  document.addEventListener("click", (event) => {
    const target = event.target as Element;
    const link = target.closest<HTMLAnchorElement>("a[data-open]");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      void load(link.href, undefined, true);
    } else if (target.closest("[data-do=skip]")) {
      step(1);
    }
  });
  document.addEventListener("input", (event) => {
    const form = (event.target as HTMLInputElement).form;
    if (form?.dataset.draft === undefined) return;
    say(form, "");
    unsaved = form;
    clearTimeout(saving);
    saving = setTimeout(() => void save(), 500);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target instanceof HTMLTextAreaElement) event.target.blur();
  });
  addEventListener("beforeunload", flush); // a reload asks for the page before it hides it
  addEventListener("pagehide", () => {
    flush();
    letGo();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") flush();
  });
  document.addEventListener("htmx:beforeRequest", () => {
    flush();
    letGo();
  });
  document.addEventListener("htmx:afterSwap", () => {
    due();
    look();
  });
  history.replaceState({ htmx: true }, ""); // so that Back comes here as well
  setInterval(due, 1000);
  due();
  look();
}
