// A list, live: rows on the page change in place, new ones are only counted. Nothing moves under the pointer. The list says by
// data-path where they are to be had.
import { ask, type Change, elements, morph, refreshWith } from "./live";
import { tick } from "./time";

const rowsOf = (list: Element) => [...list.querySelectorAll<HTMLElement>("tr[id^=row-]")];

/** The execution that a row is about. */
export function idOf(row: Element): string {
  return row.id.slice(row.id.indexOf("-") + 1);
}

async function refreshRows(list: HTMLElement, ids: string[]): Promise<void> {
  if (ids.length === 0) return;
  const html = await ask(`${list.dataset.path}/rows?ids=${ids.map(encodeURIComponent).join(",")}`);
  for (const next of elements(html)) {
    const row = document.getElementById(next.id);
    if (row && list.contains(row) && !selecting(row)) {
      morph(row, next);
    }
  }
}

/** A row somebody is marking text in keeps still. */
function selecting(row: Element): boolean {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(row, true);
}

async function countNew(list: HTMLElement): Promise<void> {
  const pill = document.getElementById("fresh");
  if (!pill || list.dataset.first === undefined) return; // only the newest page can have newer rows
  const query = new URLSearchParams(location.search);
  query.set("after", list.dataset.first);
  query.set("at", list.dataset.at ?? "");
  const next = elements(await ask(`${list.dataset.path}/fresh?${query}`, "fresh"))[0];
  if (next) morph(pill, next);
  tick();
}

export function startList(): void {
  refreshWith("list", async (list, changes) => {
    const shown = new Set(rowsOf(list).map((row) => idOf(row)));
    const named = (change: Change) => (list.dataset.path === "/runs" ? change.run : change.id) ?? "";
    const changed = new Set(changes ? changes.map(named) : shown);
    await refreshRows(
      list,
      [...changed].filter((id) => shown.has(id)),
    );
    if (!changes || [...changed].some((id) => !shown.has(id))) {
      await countNew(list);
    }
  });
  // A choice applies at once; what is typed applies with Enter.
  document.addEventListener("change", (event) => {
    const field = event.target as HTMLElement;
    if (field.matches(".filters select")) field.closest("form")?.requestSubmit();
  });
  // An empty field says nothing: it does not belong in the URL.
  document.addEventListener("htmx:configRequest", (event) => {
    const { formData } = (event as CustomEvent<{ formData: FormData }>).detail;
    for (const [name, value] of [...formData]) {
      if (value === "") formData.delete(name);
    }
  });
}

/** Moves the focus by rows: 1 down, -1 up, Infinity to the last one. */
export function moveRow(by: number): void {
  const links = [...document.querySelectorAll<HTMLElement>("a.row-link")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const next = at < 0 && Math.abs(by) === 1 ? 0 : Math.min(links.length - 1, Math.max(0, at + by));
  links[next]?.focus();
}
