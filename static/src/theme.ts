// The theme lives in a cookie, so that the first byte of the next page has it already. Without this script the same form posts to the
// server, which sets the cookie.

export function startTheme(): void {
  document.addEventListener("submit", (event) => {
    const form = event.target as HTMLFormElement;
    const chosen = (event.submitter as HTMLButtonElement | null)?.value;
    if (form.id !== "theme" || !chosen) return;
    event.preventDefault();
    apply(chosen);
    form.closest("details")?.removeAttribute("open");
  });
}

function apply(theme: string): void {
  const root = document.documentElement;
  const system = theme === "system";
  if (system) {
    delete root.dataset.theme;
  } else {
    root.dataset.theme = theme;
  }
  // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API does not exist on plain HTTP
  document.cookie = `theme=${theme}; path=/; samesite=lax; max-age=${system ? 0 : 31_536_000}`;
  for (const button of document.querySelectorAll<HTMLButtonElement>("#theme button")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
}
