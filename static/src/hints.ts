// Values below the filter box: for the term that is being typed the server is asked what there is. Without this script the box offers
// the keys alone.
let asked = 0;

async function offer(box: HTMLInputElement): Promise<void> {
  const list = document.getElementById("q-hints");
  const [, before = "", term = ""] = box.value.match(/^(.*?)(\S*)$/s) ?? [];
  const [, head = "", key = "", prefix = ""] = term.match(/^(-?(\w+):(?:[^,"]*,)*)([^,"<>]*)$/) ?? [];
  const mine = ++asked;
  await new Promise((resolve) => setTimeout(resolve, 150));
  const known = [...document.querySelectorAll(".q-help code")].some((code) => code.textContent === `${key}:`);
  if (!list || !known || mine !== asked) return;
  const response = await fetch(`/suggest?key=${encodeURIComponent(key)}&prefix=${encodeURIComponent(prefix)}`);
  if (!response.ok || mine !== asked) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  list.replaceChildren(
    ...[...page.querySelectorAll("option")].map((found) => {
      const option = document.createElement("option");
      option.value = before + head + (/[\s",*]/.test(found.value) ? JSON.stringify(found.value) : found.value);
      return option;
    }),
  );
}

document.addEventListener("input", (event) => {
  const box = event.target as HTMLInputElement;
  if (box.id === "f-q" && box.getAttribute("list") === "q-hints" && /:\S*$/.test(box.value)) void offer(box);
});
