// Live updates. The stream only says "look again"; what a page shows comes from the server's fragments, fetched with the page's own
// filters. One tab of the browser, the one that holds the lock, has the stream and relays it to the others, because a browser allows
// six connections to a server that speaks HTTP/1.1. A lost stream is replaced by polling.

import htmx from "htmx.org";
import { Idiomorph } from "idiomorph/htmx";
import { now, readHeaderClock, tick, timeOfDay } from "./time";
import { announce, toast } from "./toast";

/** What the stream says about one thing that changed. */
export interface Change {
  topic: string;
  /** the execution, or the delivery */
  id: string;
  /** of a delivery: its execution */
  execution?: string;
  run?: string;
  status?: string;
}

/** Refreshes a region. No changes means: everything may have changed. */
export type Refresher = (region: HTMLElement, changes: Change[] | null) => Promise<void>;

type State = "live" | "lost" | "polling" | "paused";

type Message =
  | { kind: "change"; change: Change; last: string }
  | { kind: "resync"; last: string }
  | { kind: "open"; last: string }
  | { kind: "beat" | "closed" | "who" };

const topics = ["exec", "run", "approval", "delivery", "node", "memory", "bulk"];
const collectFor = 400;
const atMostEvery = 1000;
const pollEvery = 5000;
const retryAfter = 3000;
const staleAfter = 30_000;

const channel = "BroadcastChannel" in window ? new BroadcastChannel("agentfield-live") : null;
const refreshers = new Map<string, Refresher>();

let state: State = "lost";
let paused = false;
let last = document.documentElement.dataset.seq ?? "";
let freshAt = now(); // when what is shown was true
let source: EventSource | null = null;
let open = false; // the stream, ours or the leader's
let beatAt = 0; // 0: this server sends no beats that a script can see

let changes: Change[] = [];
let everything = false;
let timer: ReturnType<typeof setTimeout> | undefined;
let flushedAt = 0;
const busy = new Set<string>();

/** Sets how the region with this id is refreshed; others fetch their own fragment of the page. */
export function refreshWith(id: string, refresher: Refresher): void {
  refreshers.set(id, refresher);
}

/** Asks the server for something small. */
export async function ask(url: string, target = ""): Promise<string> {
  const response = await fetch(url, { headers: { "HX-Request": "true", "HX-Target": target }, cache: "no-store" });
  readHeaderClock(response);
  if (!response.ok) {
    throw new Error(`the server answered ${response.status}`);
  }
  freshAt = now();
  return response.text();
}

/** Turns HTML into elements without putting them on the page. */
export function elements(html: string): Element[] {
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.children];
}

/** Morphs an element into another one, so that focus, scroll and open menus survive. */
export function morph(from: Element, to: Element): void {
  Idiomorph.morph(from, to, { morphStyle: "outerHTML" });
  const morphed = document.getElementById(to.id);
  if (morphed) {
    htmx.process(morphed);
  }
}

const ownFragment: Refresher = async (region) => {
  const html = await ask(location.pathname + location.search, region.id);
  const next = elements(html).find((el) => el.id === region.id);
  if (next) {
    morph(region, next);
  }
};

// Regions

function concerns(region: HTMLElement, change: Change): boolean {
  const { live, liveId } = region.dataset;
  return (live ?? "").split(" ").includes(change.topic) && (!liveId || [change.id, change.execution, change.run].includes(liveId));
}

async function refresh(region: HTMLElement, what: Change[] | null): Promise<void> {
  if (busy.has(region.id)) {
    // One question at a time; what came meanwhile is asked afterwards.
    if (what) note(...what);
    else noteAll();
    return;
  }
  busy.add(region.id);
  try {
    await (refreshers.get(region.id) ?? ownFragment)(region, what);
    if (state === "lost" && open) show();
  } catch (error) {
    if (error instanceof TypeError) {
      lose(); // the network is gone
    } else {
      toast(`This page could not be refreshed: ${(error as Error).message}`);
    }
  } finally {
    busy.delete(region.id);
    tick();
  }
}

function flush(): void {
  timer = undefined;
  flushedAt = Date.now();
  const collected = changes;
  const all = everything;
  changes = [];
  everything = false;
  if (paused) return;
  for (const region of document.querySelectorAll<HTMLElement>("[data-live]")) {
    const mine = collected.filter((change) => concerns(region, change));
    if (all) {
      void refresh(region, null);
    } else if (mine.length > 0) {
      void refresh(region, mine);
    }
  }
  speak(collected);
}

function schedule(): void {
  if (timer === undefined) {
    timer = setTimeout(flush, Math.max(collectFor, flushedAt + atMostEvery - Date.now()));
  }
}

function note(...more: Change[]): void {
  changes.push(...more);
  schedule();
}

function noteAll(): void {
  everything = true;
  schedule();
}

function speak(of: Change[]): void {
  const ended = new Map(of.filter((c) => c.topic === "exec").map((c) => [c.id, c.status]));
  const count = (...statuses: string[]) => [...ended.values()].filter((s) => statuses.includes(s ?? "")).length;
  const failed = count("failed", "timeout");
  const finished = failed + count("succeeded", "cancelled");
  if (finished > 0) {
    const noun = finished === 1 ? "execution" : "executions";
    announce(`${finished} ${noun} finished${failed > 0 ? `, ${failed} failed` : ""}`);
  }
}

// The indicator

function show(): void {
  state = paused ? "paused" : open ? "live" : state === "polling" ? "polling" : "lost";
  const el = document.getElementById("live");
  const text = el?.querySelector("span");
  if (!el || !text) return;
  el.dataset.state = state;
  el.toggleAttribute("data-on", open && !paused);
  const words: Record<State, string> = {
    live: "Live",
    lost: `Reconnecting… data from ${timeOfDay(freshAt)}`,
    paused: "Paused by you",
    polling: "Polling every 5 s",
  };
  text.textContent = words[state];
  el.setAttribute("aria-pressed", String(paused));
  el.title = paused ? "Resume live updates (.)" : "Pause live updates (.)";
}

/** Stops or resumes live updates of this tab. */
export function togglePause(): void {
  paused = !paused;
  show();
  if (!paused) noteAll();
}

function lose(): void {
  open = false;
  state = "lost";
  show();
}

// Messages: from the stream when this tab leads, else from the tab that does

function take(message: Message): void {
  switch (message.kind) {
    case "change":
      last = message.last || last;
      note(message.change);
      break;
    case "resync":
      last = message.last || last;
      noteAll();
      break;
    case "open": {
      // A page that is as new as the stream has missed nothing.
      const current = last !== "" && last === message.last;
      if (!open || !current) {
        last = message.last || last;
        if (!current) noteAll();
      }
      open = true;
      show();
      break;
    }
    case "closed":
      lose();
      break;
    case "beat":
      break;
    case "who":
      if (source && open) channel?.postMessage({ kind: "open", last } satisfies Message);
      return;
  }
  if (message.kind !== "closed") beatAt = message.kind === "beat" || beatAt > 0 ? Date.now() : 0;
}

function lead(message: Message): void {
  channel?.postMessage(message);
  take(message);
}

function connect(): void {
  if (source) return;
  const stream = new EventSource(`/events${last ? `?last=${encodeURIComponent(last)}` : ""}`);
  source = stream;
  stream.onopen = () => lead({ kind: "open", last });
  stream.onerror = () => {
    if (source !== stream) return;
    lead({ kind: "closed" });
    if (stream.readyState === EventSource.CLOSED) reconnect();
  };
  for (const topic of topics) {
    stream.addEventListener(topic, (event) => {
      try {
        const data = JSON.parse(event.data) as Omit<Change, "topic">;
        lead({ kind: "change", change: { ...data, topic }, last: event.lastEventId });
      } catch {
        lead({ kind: "resync", last: event.lastEventId });
      }
    });
  }
  stream.addEventListener("resync", (event) => lead({ kind: "resync", last: event.lastEventId }));
  stream.addEventListener("beat", () => lead({ kind: "beat" }));
}

/** An EventSource never retries after an answer other than 200. */
function reconnect(): void {
  disconnect();
  setTimeout(() => {
    if (wanted()) connect();
  }, retryAfter);
}

function disconnect(): void {
  source?.close();
  source = null;
}

// Who has the stream

let leading = false;
let release: (() => void) | null = null;

function wanted(): boolean {
  return leading && (navigator.locks !== undefined || document.visibilityState === "visible");
}

function join(): void {
  if (!navigator.locks) {
    // Plain HTTP on another host than localhost: a stream of our own, while somebody looks.
    leading = true;
    if (wanted()) connect();
    return;
  }
  channel?.postMessage({ kind: "who" } satisfies Message);
  void navigator.locks.request("agentfield-live", () => {
    leading = true;
    connect();
    return new Promise<void>((resolve) => {
      release = resolve;
    });
  });
}

function leave(): void {
  disconnect();
  leading = false;
  release?.();
  release = null;
}

export function startLive(): void {
  if (!document.querySelector("[data-live]")) {
    document.getElementById("live")?.remove();
    return;
  }
  channel?.addEventListener("message", (event: MessageEvent<Message>) => take(event.data));
  document.getElementById("live")?.addEventListener("click", togglePause);
  join();
  show();
  setInterval(() => {
    if (beatAt > 0 && open && Date.now() - beatAt > staleAfter) {
      beatAt = 0;
      lose();
      if (source) reconnect();
    }
    if (!open && !paused && document.visibilityState === "visible") {
      state = "polling";
      show();
      noteAll();
    }
  }, pollEvery);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") noteAll();
    if (!navigator.locks) {
      if (wanted()) connect();
      else disconnect();
    }
  });
  // A page with an open stream never enters the back/forward cache.
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      join();
      noteAll();
    }
  });
}
