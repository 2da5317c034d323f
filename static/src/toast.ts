// Short messages at the edge of the page, and sentences for screen readers.

/** Shows a message for a few seconds; one that is already there is not repeated. */
export function toast(text: string): void {
  const box = document.getElementById("toasts");
  if (!box || [...box.children].some((shown) => shown.textContent === text)) return;
  const message = document.createElement("div");
  message.textContent = text;
  box.append(message);
  setTimeout(() => message.remove(), 6000);
}

let spokenAt = 0;
let pending = "";

/** Says a sentence to screen readers, at most one in ten seconds; the latest wins. */
export function announce(text: string): void {
  const waiting = pending !== "";
  pending = text;
  if (waiting) return;
  setTimeout(
    () => {
      const region = document.getElementById("announce");
      if (region) {
        region.textContent = pending;
      }
      pending = "";
      spokenAt = Date.now();
    },
    Math.max(0, spokenAt + 10_000 - Date.now()),
  );
}
