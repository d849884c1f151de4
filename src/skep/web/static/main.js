// The page: one board, one stream, one view at a time.

import { mySession, openSession } from "./api.js";
import { Board } from "./board.js";
import { el, fill, say, setText, toast } from "./dom.js";
import { ago, clock, count } from "./format.js";
import { help, listen } from "./keyboard.js";
import { Overview } from "./map.js";
import { link, route } from "./router.js";
import { Stream } from "./stream.js";

// The first view is there at once; the others are loaded when they are looked at.
const VIEWS = {
  map: () => Overview,
  services: async () => (await import("./services.js")).Services,
  nodes: async () => (await import("./nodes.js")).Nodes,
  pending: async () => (await import("./pending.js")).Pending,
  events: async () => (await import("./events.js")).EventsView,
  service: async () => (await import("./service.js")).ServiceView,
  node: async () => (await import("./node.js")).NodeView,
};
const TABS = [["map", "Map"], ["services", "Services"], ["nodes", "Nodes"], ["pending", "Pending"], ["events", "Events"]];
const PART_OF = { service: "services", node: "nodes" };
const LEAST_MS = 200; // between two paintings: a scale-up says something 20 times a second

const board = new Board();
const main = document.getElementById("main");
let view = null;
let shown = "";
let paintedAt = 0;
let planned = false;

async function showView() {
  const asked = route();
  const address = [asked.view, asked.id, asked.part].join("/");
  if (address === shown || !board.epoch) return;
  const isFirst = shown === "";
  shown = address;
  const made = (VIEWS[asked.view] ?? VIEWS.map)();
  const View = made instanceof Promise ? await made : made; // the first view is painted at once
  if (shown !== address) return; // another one was asked for meanwhile
  view?.close();
  view = new View({ board }, asked);
  fill(main, view.element);
  document.title = `${view.title} · skep`;
  view.update();
  showTabs(asked.view);
  if (isFirst) {
    performance.mark("skep-painted");
    return;
  }
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
  say(view.title);
}

function showTabs(name) {
  const pending = [...board.pending.values()].reduce((sum, each) => sum + each, 0);
  const says = `${name}|${pending}`;
  const nav = document.getElementById("nav");
  if (nav.dataset.says === says) return;
  nav.dataset.says = says;
  const focused = [...nav.children].indexOf(document.activeElement);
  const current = PART_OF[name] ?? (name in VIEWS ? name : "map");
  fill(nav, TABS.map(([tab, label]) => el("a", { href: link(tab), "aria-current": tab === current ? "page" : null }, label,
    tab === "pending" && pending ? el("span", { class: "badge" }, count(pending)) : null)));
  nav.children[focused]?.focus();
}

/** Shows what has changed: at once, but not more often than eyes follow. */
function plan() {
  if (planned) return;
  planned = true;
  setTimeout(() => requestAnimationFrame(paint), Math.max(0, LEAST_MS - (performance.now() - paintedAt)));
}

function paint() {
  planned = false;
  paintedAt = performance.now();
  if (view) view.update();
  else showView();
  showTabs(route().view);
}

let linked = { state: "wait", since: 0, why: "" };

function showLink() {
  const element = document.getElementById("link");
  const isLost = linked.state === "lost";
  element.dataset.state = linked.state;
  document.body.classList.toggle("stale", isLost);
  setText(element, isLost ? `not connected since ${clock(linked.since / 1000)}` : "live");
  const banner = document.getElementById("banner");
  banner.hidden = !(isLost && linked.why);
  if (isLost) {
    setText(banner, linked.why);
    element.title = `for ${ago(linked.since / 1000)}; what is shown is from then`;
  } else element.title = "";
}

function showTheme() {
  setText(document.getElementById("theme"), `Theme: ${skepTheme.choice}`);
}

function nextTheme() {
  const next = skepTheme.next();
  showTheme();
  view?.recolour?.();
  say(`Theme: ${next}`);
}

function showSession() {
  const { host, readOnly } = mySession();
  setText(document.getElementById("swarm"), host);
  document.getElementById("swarm").title = host;
  if (readOnly) document.querySelector(".tools").prepend(el("span", { class: "readonly", title: "skep dashboard --read-only: this page orders nothing" }, "read-only"));
}

document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", help);
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.recolour?.());
addEventListener("hashchange", showView);
addEventListener("unhandledrejection", (event) => toast(`This page has a fault: ${event.reason?.message ?? event.reason}`));
listen(nextTheme);
showTheme();

const stream = new Stream(board, { board: plan, link: (now) => { linked = now; showLink(); } });
openSession().then(showSession, () => {}); // the stream says what is wrong, and asks again
stream.start();
