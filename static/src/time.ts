// Times on the page. The server writes each one in full, as text that is right when the page is made; here they go on ticking, against
// the server's clock and not the visitor's, and are shown in the zone the visitor chose.

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/** Milliseconds the server's clock is ahead of ours. */
let ahead = 0;

/** The server's clock, in ms since 1970. */
export function now(): number {
  return Date.now() + ahead;
}

/** Reads the offset from the instant at which the server made this page. */
export function readPageClock(): void {
  const made = Number(document.documentElement.dataset.now);
  const timing = performance.getEntriesByType("navigation")[0] as PerformanceNavigationTiming | undefined;
  if (made > 0 && timing) {
    ahead = made - (performance.timeOrigin + timing.responseStart);
  }
}

/** Corrects the offset by the Date header of an answer, which counts whole seconds: only a larger difference means anything. */
export function readHeaderClock(response: Response): void {
  const made = Date.parse(response.headers.get("Date") ?? "") + 500;
  if (made > 0 && Math.abs(made - now()) > 2 * second) {
    ahead = made - Date.now();
  }
}

/** A duration in words: 743 ms, 5.8 s, 42 s, 4 min 12 s, 3 h 12 min, 2 d 3 h. The Go side writes them the same way. */
export function span(ms: number): string {
  if (ms < second) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10 * second) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < minute) return `${Math.floor(ms / second)} s`;
  if (ms < hour) return pair(ms, minute, "min", second, "s");
  if (ms < day) return pair(ms, hour, "h", minute, "min");
  return pair(ms, day, "d", hour, "h");
}

function pair(ms: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((ms % large) / small);
  const whole = `${Math.floor(ms / large)} ${largeUnit}`;
  return rest > 0 ? `${whole} ${rest} ${smallUnit}` : whole;
}

/** A running time: whole seconds, in steps that grow with it so that long ones do not flicker. */
function running(ms: number): string {
  const step = ms < minute ? second : ms < 5 * minute ? 5 * second : ms < hour ? 30 * second : minute;
  const whole = Math.max(0, Math.floor(ms / step) * step);
  return whole < 10 * second ? `${whole / second} s` : span(whole);
}

function ago(ms: number): string {
  if (ms < second) return "just now";
  if (ms < minute) return `${Math.floor(ms / second)} s ago`;
  if (ms < hour) return `${Math.floor(ms / minute)} min ago`;
  if (ms < day) return `${Math.floor(ms / hour)} h ago`;
  return `${Math.floor(ms / day)} d ago`;
}

const pad = (n: number, width = 2) => String(n).padStart(width, "0");

function clock(at: Date, utc: boolean): string {
  return utc
    ? `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())}`
    : `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

function date(at: Date, utc: boolean): string {
  return utc
    ? `${at.getUTCFullYear()}-${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())}`
    : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

const zoneKey = "agentfield-utc";
let utc = localStorage.getItem(zoneKey) === "1";

/** The time of day in the chosen zone. */
export function timeOfDay(ms: number): string {
  return clock(new Date(ms), utc);
}

/** Switches between local time and UTC and returns the zone now in use. */
export function toggleZone(): string {
  utc = !utc;
  localStorage.setItem(zoneKey, utc ? "1" : "0");
  tick();
  return zone();
}

function zone(): string {
  return utc ? "UTC" : "local time";
}

function write(el: Element, text: string): void {
  if (el.textContent !== text) {
    el.textContent = text;
  }
}

/** Brings every time on the page up to date. */
export function tick(): void {
  const at = now();
  for (const el of document.querySelectorAll<HTMLTimeElement>("time[data-ago], time[data-clock]")) {
    const then = new Date(el.dateTime);
    const dated = el.dataset.clock === "full" ? `${date(then, utc)} ` : "";
    write(el, el.dataset.ago === undefined ? dated + clock(then, utc) : ago(at - then.getTime()));
    const both = `${date(then, true)} ${clock(then, true)} UTC · ${date(then, false)} ${clock(then, false)} local`;
    if (el.title !== both) {
      el.title = both;
    }
  }
  for (const el of document.querySelectorAll<HTMLElement>("[data-since]")) {
    write(el, running(at - Number(el.dataset.since)));
  }
  for (const el of document.querySelectorAll<HTMLElement>("[data-until]")) {
    write(el, running(Math.max(0, Number(el.dataset.until) - at)));
  }
  for (const el of document.querySelectorAll("[data-zone]")) {
    write(el, zone());
  }
}

/** Starts the clock. */
export function startTicking(): void {
  readPageClock();
  tick();
  setInterval(() => {
    if (document.visibilityState === "visible") {
      tick();
    }
  }, second);
}
