// The command palette: everything that can be done from here, found by typing. It is loaded when somebody first asks for it, and takes
// the keys from the table of keys.ts, so that it shows each action's own key and people learn it.
import type { Key } from "./keys";

interface Group {
  name: string;
  keys: Key[];
}

interface Command {
  label: string;
  hint: string;
  run: () => unknown;
}

const go = (to: string) => () => location.assign(to);

/** What the page itself offers: its links to other pages, and the buttons of what it shows. */
function ofPage(): Command[] {
  const links = [...document.querySelectorAll<HTMLAnchorElement>(".nav a")].map((a) => ({
    label: a.querySelector("span")?.textContent?.trim() ?? "",
    hint: "page",
    run: go(a.href),
  }));
  const buttons = [...document.querySelectorAll<HTMLElement>("main a.btn, main button.btn, main .tabs a")]
    .filter((el) => el.checkVisibility() && !el.matches("[disabled], [aria-disabled=true]"))
    .map((el) => ({ label: (el.textContent ?? "").replace(/\s+/g, " ").trim(), hint: "on this page", run: () => el.click() }));
  return [...links, ...buttons].filter((c) => c.label !== "");
}

function ofKeys(groups: Group[], known: Set<string>): Command[] {
  return groups
    .flatMap((group) => group.keys)
    .filter((key) => key.run && key.press !== "Ctrl K" && !known.has(key.does))
    .map((key) => ({ label: key.does, hint: key.press, run: () => key.run?.() }));
}

/** What the typed words themselves may mean. */
function ofText(text: string): Command[] {
  if (text === "") return [];
  const q = encodeURIComponent(text);
  const filter = { label: `Filter executions: ${text}`, hint: "filter", run: go(`/executions?q=${q}`) };
  const id = { label: `Go to the id ${text}`, hint: "id", run: go(`/g?id=${q}`) };
  return /[:<>]/.test(text) ? [filter] : [filter, id];
}

/** Nodes and functions that begin like this, from the server. */
async function ofServer(text: string): Promise<Command[]> {
  const found: Command[] = [];
  for (const key of ["target", "node"]) {
    const response = await fetch(`/suggest?key=${key}&prefix=${encodeURIComponent(text)}`);
    const page = new DOMParser().parseFromString(response.ok ? await response.text() : "", "text/html");
    for (const option of page.querySelectorAll("option")) {
      found.push({ label: `Executions of ${option.value}`, hint: key, run: go(`/executions?${key}=${encodeURIComponent(option.value)}`) });
    }
  }
  return found;
}

const matches = (label: string, words: string[]) => words.every((word) => label.toLowerCase().includes(word));

export function open(groups: Group[]): void {
  if (document.querySelector("dialog[open]")) return;
  const all = ofPage();
  all.push(...ofKeys(groups, new Set(all.map((c) => c.label))));
  const dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.setAttribute("aria-label", "Do anything");
  const input = document.createElement("input");
  input.type = "text";
  input.placeholder = "A page, an action, a filter such as status:failed, an id";
  for (const [name, value] of Object.entries({
    role: "combobox",
    "aria-label": "What to do",
    "aria-expanded": "true",
    "aria-controls": "palette-list",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
  })) {
    input.setAttribute(name, value);
  }
  const list = document.createElement("ul");
  list.id = "palette-list";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Commands");
  list.tabIndex = -1;
  dialog.append(input, list);
  let shown: Command[] = [];
  let at = 0;
  let asked = 0;

  const choose = (to: number) => {
    at = Math.max(0, Math.min(shown.length - 1, to));
    [...list.children].forEach((li, i) => {
      li.setAttribute("aria-selected", String(i === at));
      if (i === at) {
        input.setAttribute("aria-activedescendant", li.id);
        li.scrollIntoView({ block: "nearest" });
      }
    });
  };
  const show = (commands: Command[]) => {
    shown = commands.slice(0, 40);
    list.replaceChildren(
      ...shown.map((command, i) => {
        const li = document.createElement("li");
        li.id = `palette-${i}`;
        li.setAttribute("role", "option");
        for (const text of [command.label, command.hint]) {
          const span = document.createElement("span");
          span.textContent = text;
          li.append(span);
        }
        li.addEventListener("click", () => run(i));
        return li;
      }),
    );
    choose(0);
  };
  const run = (i: number) => {
    dialog.close();
    shown[i]?.run();
  };
  const find = () => {
    const text = input.value.trim();
    const words = text.toLowerCase().split(/\s+/);
    const found = all.filter((command) => matches(command.label, words));
    const typed = ofText(text);
    show([...found, ...typed]);
    const mine = ++asked;
    if (text.length > 1 && !/[:<>\s]/.test(text)) {
      setTimeout(async () => {
        if (mine !== asked) return;
        const more = await ofServer(text);
        if (mine === asked && more.length > 0) show([...found, ...more, ...typed]);
      }, 150);
    }
  };
  input.addEventListener("input", find);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) choose(at + step);
    else if (event.key === "Enter") run(at);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  find();
}
