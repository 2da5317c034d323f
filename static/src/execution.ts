// The page of one execution, and the one on which its input is edited. Both are complete without it: this notes how far the visitor has
// seen what happens, so that they are told when they come back, and keeps what they type.

const page = document.getElementById("execution");
const form = document.querySelector<HTMLFormElement>("form#rerun[data-draft]");
const every = 60_000;

/** Tells the server that the visitor has all this before their eyes. */
function seen(): void {
  if (page?.dataset.seen) navigator.sendBeacon(page.dataset.seen, new URLSearchParams());
}

if (page) {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") seen();
  });
  addEventListener("pagehide", seen);
  setInterval(() => {
    if (document.visibilityState === "visible") seen();
  }, every);
  // A choice takes effect at once; the button is for those without script.
  document.addEventListener("change", (event) => {
    const select = (event.target as Element).closest<HTMLSelectElement>("#clock-level");
    select?.form?.requestSubmit();
  });
}

let timer: ReturnType<typeof setTimeout> | undefined;
let unsaved = false;

/** What is typed, as the server keeps it. */
function draft(of: HTMLFormElement): URLSearchParams {
  const typed = new URLSearchParams(new FormData(of) as unknown as Record<string, string>);
  typed.delete("key");
  return new URLSearchParams({ text: typed.toString() });
}

function keep(): void {
  clearTimeout(timer);
  if (unsaved && form?.dataset.draft) navigator.sendBeacon(form.dataset.draft, draft(form));
  unsaved = false;
}

if (form) {
  form.addEventListener("input", () => {
    unsaved = true;
    clearTimeout(timer);
    timer = setTimeout(keep, 1000);
  });
  form.addEventListener("submit", () => {
    clearTimeout(timer);
    unsaved = false; // what is sent takes the draft's place
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") keep();
  });
  addEventListener("pagehide", keep);
}
