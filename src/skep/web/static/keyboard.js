// Keys of the whole page. Single letters can be switched off: who speaks to the machine types them without wanting to.

import { show } from "./dialog.js";
import { el } from "./dom.js";
import { go } from "./go.js";
import { route } from "./router.js";

const KEY = "skep.keys";
const VIEWS = { 1: "map", 2: "services", 3: "nodes", 4: "pending", 5: "events" };
const HELP = [
  [["/"], "search"], [["j", "k"], "next, previous row; the arrow keys do the same"], [["Enter"], "open what is chosen"],
  [["Esc"], "leave the search, close a dialog, go back"], [["1", "–", "5"], "the views, in their order"],
  [["←", "↑", "↓", "→"], "on the map: from node to node"], [["+", "−", "0"], "on the map: zoom in, out, show all"], [["t"], "another colour scheme"], [["?"], "this"],
];

let enabled = true;
try { enabled = localStorage.getItem(KEY) !== "off"; } catch { /* storage is refused: they are on */ }

// In a dialog that has just closed nobody types, though the focus is there for a moment.
const isTyping = (target) => target instanceof HTMLElement && !target.closest("dialog:not([open])") && (target.matches("input, select, textarea") || target.isContentEditable);

function rows() {
  return [...document.querySelectorAll("main [data-row]")].filter((each) => each.offsetParent !== null);
}

function moveRow(by) {
  const all = rows();
  if (all.length === 0) return document.querySelector("main canvas")?.focus();
  const row = document.activeElement?.closest?.("tr, section");
  const at = all.findIndex((each) => each === document.activeElement || (row && row.contains(each)));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

const UP = { service: "services", node: "nodes" };

function back() {
  const { view } = route();
  if (isTyping(document.activeElement)) document.activeElement.blur();
  else if (UP[view]) go(UP[view]);
  else document.activeElement?.blur();
}

export function help() {
  if (document.querySelector("dialog[open]")) return;
  const turn = el("input", { type: "checkbox", onchange: (event) => {
    enabled = event.target.checked;
    try { localStorage.setItem(KEY, enabled ? "on" : "off"); } catch { /* it lasts as long as the page */ }
  } });
  turn.checked = enabled;
  show(el("dialog", { "aria-labelledby": "keys" }, el("form", { method: "dialog" }, el("h2", { id: "keys" }, "Keys"),
    el("dl", { class: "keys" }, HELP.map(([keys, does]) => [el("dt", null, keys.map((key) => (key === "–" ? " – " : el("kbd", null, key)))), el("dd", null, does)])),
    el("label", { class: "check" }, turn, "single keys work (Esc and Enter always do)"),
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "main" }, "Close")))));
}

/** Listens; `theme` changes the colour scheme. */
export function listen(theme) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") { back(); return; }
    if (isTyping(event.target)) {
      if (event.key === "ArrowDown" && event.target.matches("input[type=search]")) { event.preventDefault(); moveRow(1); }
      return;
    }
    const scrolls = event.target instanceof HTMLElement && event.target.matches(".log");
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !scrolls && rows().length) {
      event.preventDefault();
      moveRow(event.key === "ArrowDown" ? 1 : -1);
      return;
    }
    if (!enabled) return;
    const acts = { "/": () => document.getElementById("search")?.focus(), j: () => moveRow(1), k: () => moveRow(-1), "?": help, t: theme };
    const act = acts[event.key] ?? (VIEWS[event.key] ? () => go(VIEWS[event.key]) : null);
    if (!act) return;
    event.preventDefault();
    act();
  });
}
