// What happens, as Docker's events say it: an hour back, then as it comes.

import { follow } from "./api.js";
import { el, setText } from "./dom.js";
import { clock, shortId, some } from "./format.js";

const BACK_S = 3600;
const LINES_MAX = 1000;
const LINE_MAX = 1 << 20; // of one event: its object's labels are in it
const PAINT_MS = 150;
const AGAIN_S = 3;
const KINDS = ["service", "node", "network", "secret", "config", "container", "task"];
const ALL = { type: ["service", "node", "network", "secret", "config"] };

export class Events {
  /** `filters` as of Docker's /events. */
  constructor(filters) {
    this._filters = filters;
    this._waiting = [];
    this._sinceNs = String(Math.floor(Date.now() / 1000) - BACK_S);
    this._seen = new Set();
    this._list = el("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Events", tabindex: "0" });
    this._state = el("span", { class: "count" }, "connecting");
    this.element = el("div", { class: "stack" }, el("div", { class: "filters" }, this._state), this._list);
    this._ends = new AbortController();
    this._timer = setInterval(() => this._paint(), PAINT_MS);
    this._follow();
  }

  close() {
    this._ends.abort();
    clearInterval(this._timer);
    clearTimeout(this._again);
  }

  async _follow() {
    try {
      const query = `since=${this._sinceNs}&filters=${encodeURIComponent(JSON.stringify(this._filters))}`;
      const response = await follow(`/events?${query}`, this._ends.signal);
      this._tell("follows");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        if (rest.length > LINE_MAX) throw new Error("an event is longer than a mebibyte");
        for (const line of lines) if (line.trim()) this._take(JSON.parse(line), line);
      }
      this._tell("the swarm has ended the stream: asked again soon");
    } catch (error) {
      if (this._ends.signal.aborted) return;
      this._tell(error.message);
    }
    if (!this._ends.signal.aborted) this._again = setTimeout(() => this._follow(), AGAIN_S * 1000);
  }

  _take(event, line) {
    if (this._seen.has(line)) return; // of the second that is asked for again after a break
    this._seen.add(line);
    if (this._seen.size > LINES_MAX) this._seen.delete(this._seen.values().next().value);
    this._sinceNs = String(event.time ?? this._sinceNs);
    this._waiting.push(event);
    if (this._waiting.length > LINES_MAX) this._waiting.shift();
  }

  _paint() {
    if (this._waiting.length === 0) return;
    this._list.prepend(...this._waiting.reverse().map((event) => this._line(event)));
    this._waiting = [];
    while (this._list.children.length > LINES_MAX) this._list.lastChild.remove();
    this._tell("follows");
  }

  _line(event) {
    const { ID: id, Attributes: said = {} } = event.Actor ?? {};
    const kind = KINDS.includes(event.Type) ? event.Type : "other";
    const rest = Object.entries(said).filter(([key]) => key !== "name").map(([key, value]) => `${key}=${value}`).join("  ");
    return el("p", null, el("time", null, clock(event.time)), el("span", { class: "from" }, `${kind} ${event.Action}`), el("span"),
      el("span", { class: "line" }, said.name || shortId(id), el("span", { class: "soft" }, rest ? `  ${rest}` : "")));
  }

  _tell(text) { setText(this._state, `${text}, ${some(this._list.children.length, "event")}, the newest first`); }
}

/** The view of all of the swarm's events. */
export class EventsView {
  constructor() {
    this.title = "Events";
    this._events = new Events(ALL);
    this.element = [el("h1", null, "Events"), this._events.element];
  }

  update() {}

  close() { this._events.close(); }
}
