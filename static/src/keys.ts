// The keyboard. One table says which keys there are, what they do and how the sheet explains them, so the three never disagree.
import { approvalKeys, step } from "./approvals";
import { copy } from "./copy";
import { idOf, moveRow } from "./list";
import { togglePause } from "./live";
import { toggleZone } from "./time";
import { toast } from "./toast";

export interface Key {
  /** one key, or two to be pressed one after the other */
  press: string;
  /** further keys that do the same */
  also?: string;
  does: string;
  /** missing: the browser does it by itself */
  run?: () => unknown;
}

const groups: { name: string; keys: Key[] }[] = [
  {
    name: "Everywhere",
    keys: [
      { press: "?", does: "Show or hide this sheet", run: toggleSheet },
      { press: "Ctrl K", does: "Do anything: pages, actions, filters, ids", run: openPalette },
      { press: "/", does: "Go to the filter, or to the search box", run: focusFilter },
      { press: "g o", does: "Overview", run: () => location.assign("/") },
      { press: "g e", does: "Executions", run: () => location.assign("/executions") },
      { press: "g r", does: "Runs", run: () => location.assign("/runs") },
      { press: "g n", does: "Nodes", run: () => location.assign("/nodes") },
      { press: "g w", does: "Webhooks", run: () => location.assign("/webhooks") },
      { press: "g a", does: "Approvals", run: () => location.assign("/approvals") },
      { press: ".", does: "Pause or resume live updates", run: togglePause },
      { press: "t", does: "Local time or UTC", run: () => toast(`Times are in ${toggleZone()}`) },
      { press: "y", does: "Copy the link of this page", run: () => void copied("Link copied", location.href) },
      { press: "Y", does: "Copy the id of this page, or of the row", run: copyID },
      { press: "Esc", does: "Close what is open" },
    ],
  },
  {
    name: "Lists",
    keys: [
      { press: "j", does: "Next row", run: () => void (step(1) || moveRow(1)) },
      { press: "k", does: "Previous row", run: () => void (step(-1) || moveRow(-1)) },
      { press: "g g", does: "First row", run: () => moveRow(-Infinity) },
      { press: "G", does: "Last row", run: () => moveRow(Infinity) },
      { press: "Enter", also: "o", does: "Open the row", run: openRow },
      { press: "n", does: "Show new rows", run: () => document.querySelector<HTMLElement>("#fresh a")?.click() },
    ],
  },
  { name: "Approvals", keys: approvalKeys },
];

// "Ctrl K" is told from its modifier, not from a sequence, and a focused link opens by itself.
const table = new Map(
  groups.flatMap((group) => group.keys).flatMap((key) => [[key.press, key.run] as const, [key.also ?? key.press, key.run] as const]),
);
table.delete("Enter");
table.delete("Ctrl K");

const offKey = "agentfield-keys-off";

function openRow(): void {
  const row = document.activeElement;
  if (row?.matches("a.row-link")) (row as HTMLElement).click();
}

function focusFilter(): void {
  const field =
    document.querySelector<HTMLInputElement>(".filters input:not([type=hidden])") ??
    document.querySelector<HTMLInputElement>(".goto input");
  field?.focus();
  field?.select();
}

async function copied(done: string, text: string): Promise<void> {
  toast((await copy(text)) ? done : "This browser does not let the page copy");
}

function copyID(): void {
  const row = document.activeElement?.matches("a.row-link") ? document.activeElement.closest("[id]") : null;
  const id = row ? idOf(row) : document.querySelector<HTMLElement>("[data-page-id]")?.dataset.pageId;
  if (id) void copied("Id copied", id);
}

/** The palette is a script of its own, loaded when it is first asked for. */
async function openPalette(): Promise<void> {
  const address = document.getElementById("help")?.dataset.palette;
  if (address) (await import(address)).open(groups);
}

// The sheet

function toggleSheet(): void {
  const sheet = document.querySelector<HTMLDialogElement>("dialog.sheet") ?? makeSheet();
  if (sheet.open) sheet.close();
  else sheet.showModal();
}

function el<K extends keyof HTMLElementTagNameMap>(tag: K, text = "", ...children: Node[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.append(text, ...children);
  return made;
}

function makeSheet(): HTMLDialogElement {
  const sheet = el("dialog");
  sheet.className = "sheet";
  const title = el("h2", "Keyboard");
  title.id = "sheet-title";
  sheet.setAttribute("aria-labelledby", title.id);
  sheet.append(title);
  for (const group of groups) {
    const list = el("dl");
    for (const key of group.keys) {
      const caps = [...key.press.split(" "), ...(key.also ? [key.also] : [])].map((cap) => el("kbd", cap));
      list.append(el("div", "", el("dt", key.does), el("dd", "", ...caps)));
    }
    sheet.append(el("h3", group.name), list);
  }
  sheet.append(switchLabel(), closeForm());
  sheet.addEventListener("click", (event) => {
    if (event.target === sheet) sheet.close();
  });
  document.body.append(sheet);
  return sheet;
}

/** Single keys can be turned off (WCAG 2.1.4); the sheet's button then still opens it. */
function switchLabel(): HTMLLabelElement {
  const box = el("input");
  box.type = "checkbox";
  box.checked = localStorage.getItem(offKey) === null;
  box.addEventListener("change", () => {
    if (box.checked) localStorage.removeItem(offKey);
    else localStorage.setItem(offKey, "1");
  });
  return el("label", "", box, document.createTextNode("Single keys are on"));
}

function closeForm(): HTMLFormElement {
  const form = el("form");
  form.method = "dialog";
  form.className = "actions";
  const button = el("button", "Close");
  button.className = "btn";
  form.append(button);
  return form;
}

// Pressing

let first = "";
let forget: ReturnType<typeof setTimeout> | undefined;

function typing(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null;
}

function press(event: KeyboardEvent): void {
  if (event.key === "Escape") {
    closeMenus();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    void openPalette();
    return;
  }
  const sheet = document.querySelector("dialog[open]");
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typing(event.target) || localStorage.getItem(offKey)) return;
  if (sheet && event.key !== "?") return;
  const both = first ? `${first} ${event.key}` : event.key;
  const run = table.get(both) ?? table.get(event.key);
  clearTimeout(forget);
  first = "";
  if (run) {
    event.preventDefault();
    run();
  } else if ([...table.keys()].some((key) => key.startsWith(`${event.key} `))) {
    first = event.key;
    forget = setTimeout(() => {
      first = "";
    }, 1000);
  }
}

/** Closes open menus, those that hold the given element excepted, and gives the focus back to their button. */
function closeMenus(except: Element | null = null): void {
  for (const menu of document.querySelectorAll<HTMLDetailsElement>("details.menu[open]")) {
    if (except && menu.contains(except)) continue;
    if (menu.contains(document.activeElement)) menu.querySelector("summary")?.focus();
    menu.open = false;
  }
}

export function startKeys(): void {
  document.addEventListener("keydown", press);
  document.addEventListener("pointerdown", (event) => closeMenus(event.target as Element));
  document.getElementById("help")?.addEventListener("click", toggleSheet);
}
