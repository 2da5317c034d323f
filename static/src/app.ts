// What runs on every page. Pages are complete without it: this file makes them live, quicker and easier to drive by keyboard.
import { Idiomorph } from "idiomorph/htmx"; // from "idiomorph" it would be another copy, and its settings without effect
import { startApprovals } from "./approvals";
import { startCopying } from "./copy";
import { startKeys } from "./keys";
import { startList } from "./list";
import { startLive } from "./live";
import { startTheme } from "./theme";
import { startTicking, tick } from "./time";
import { toast } from "./toast";

document.documentElement.dataset.js = "";

// What is being typed stays, and so does what the visitor has opened or a script has moved: the server's HTML knows nothing of it.
Idiomorph.defaults.ignoreActiveValue = true;
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name: string, node: Element) =>
  !((name === "open" && /^(DETAILS|DIALOG)$/.test(node.tagName)) || node.getAttribute("data-keep") === name);
Idiomorph.defaults.callbacks.beforeNodeMorphed = (node: Node) => (node as HTMLElement).dataset?.keep !== "all";

document.addEventListener("htmx:afterSwap", () => tick());
document.addEventListener("htmx:sendError", () => toast("The server cannot be reached. What you see may be old."));
document.addEventListener("htmx:responseError", (event) => {
  const { xhr } = (event as CustomEvent<{ xhr: XMLHttpRequest }>).detail;
  const request = xhr.getResponseHeader("X-Request-ID");
  toast(`The server answered ${xhr.status}${request ? `, request ${request}` : ""}.`);
});

document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on phones the bar scrolls sideways
startTicking();
startCopying();
startTheme();
startKeys();
startList();
startApprovals();
startLive();
