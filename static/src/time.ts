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

const root = document.documentElement;

/** The zone of the page: UTC, a place such as Europe/Berlin, or undefined for that of this machine. */
let place: string | undefined = root.dataset.tz === "utc" ? "UTC" : root.dataset.tz;

const formats = new Map<string | undefined, Intl.DateTimeFormat>();

/** An instant in full: 2026-01-31 12:00:00. */
function full(at: Date, timeZone?: string): string {
  let format = formats.get(timeZone);
  if (!format) {
    format = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "medium" });
    formats.set(timeZone, format);
  }
  return format.format(at);
}

/** The time of day in the chosen zone. */
export function timeOfDay(ms: number): string {
  return full(new Date(ms), place).slice(11);
}

/** Switches between local time and UTC and returns the zone now in use. The cookie tells the server. */
export function toggleZone(): string {
  place = place ? undefined : "UTC";
  // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API does not exist on plain HTTP
  document.cookie = `tz=${place ? "utc" : "local"}; path=/; samesite=lax; max-age=31536000`;
  tick();
  return zone();
}

function zone(): string {
  return place ?? "local time";
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
    const text = full(then, place);
    write(el, el.dataset.ago !== undefined ? ago(at - then.getTime()) : el.dataset.clock ? text : text.slice(11));
    const both = `${full(then, "UTC")} UTC · ${place && place !== "UTC" ? `${text} ${place}` : `${full(then)} local`}`;
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
