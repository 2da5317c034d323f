// Notes how far the visitor has seen what happens to the object of the page, so that they are told when they come back. Pages are complete
// without it: opening one notes it as well.

const every = 60_000;

function seen(): void {
  const to = document.querySelector<HTMLElement>("[data-seen]")?.dataset.seen;
  if (to) navigator.sendBeacon(to, new URLSearchParams());
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") seen();
});
addEventListener("pagehide", seen);
setInterval(() => {
  if (document.visibilityState === "visible") seen();
}, every);
