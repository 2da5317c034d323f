// The page on which the input of an execution is edited, and the clock of an execution's page. Both are complete without it: this keeps what
// is typed, and lets a choice take effect at once.

const form = document.querySelector<HTMLFormElement>("form[data-draft]");

// The button is for those without script.
document.addEventListener("change", (event) => {
  const select = (event.target as Element).closest<HTMLSelectElement>("#clock-level");
  select?.form?.requestSubmit();
});

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
