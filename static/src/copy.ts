// Copy buttons: data-copy holds the text, or leaves it to the title; data-copy-of names the element whose text it is.
import { toast } from "./toast";

/** Copies a text; where the browser allows no access to the clipboard (plain HTTP) the older way is tried. */
export async function copy(text: string): Promise<boolean> {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // not permitted: try the other way
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("aria-label", "Text to copy");
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

/** Selects the text that could not be copied, so that the visitor's own copy key takes it. */
function select(el: Element): void {
  const range = document.createRange();
  range.selectNodeContents(el);
  getSelection()?.removeAllRanges();
  getSelection()?.addRange(range);
}

export function startCopying(): void {
  document.addEventListener("click", async (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy], [data-copy-of]");
    if (!button) return;
    event.preventDefault();
    const source = button.dataset.copyOf ? document.getElementById(button.dataset.copyOf) : null;
    if (await copy(source?.textContent ?? (button.dataset.copy || button.title))) {
      button.dataset.copied = "";
      setTimeout(() => delete button.dataset.copied, 1200);
      toast("Copied");
    } else {
      select(source ?? button.parentElement ?? button);
      toast("Selected: copy it with your keyboard");
    }
  });
}
