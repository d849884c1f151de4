// Tasks without a node, by service, with what keeps them waiting.

import { SERVICE } from "./board.js";
import { el, fill, setText } from "./dom.js";
import { explainInto, explainService } from "./explain.js";
import { some } from "./format.js";
import { link } from "./router.js";
import { stateBadge } from "./states.js";

const ASKED_MAX = 8; // that are explained without a click: the leader looks at each node for each
const ROWS_MAX = 200;

export class Pending {
  constructor({ board }) {
    this.title = "Pending";
    this._board = board;
    this._rows = new Map();
    this._ends = new AbortController();
    this._queue = Promise.resolve(); // one question at a time
    this._list = el("div", { class: "panel" });
    this.element = [el("h1", null, "Pending tasks"), el("p", { class: "soft" }, "Tasks that have no node yet, and why."), this._list];
  }

  update() {
    const found = [...this._board.pending].filter(([n]) => this._board.services[n]).sort((a, b) => b[1] - a[1]);
    const wanted = new Set();
    for (const [n, many] of found.slice(0, ROWS_MAX)) {
      const id = this._board.services[n][SERVICE.ID];
      wanted.add(id);
      if (!this._rows.has(id)) this._add(id, n);
      setText(this._rows.get(id).count, some(many, "task"));
    }
    for (const [id, row] of this._rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      this._rows.delete(id);
    }
    this._none ??= el("p", { class: "empty" });
    setText(this._none, found.length ? `and ${some(found.length - ROWS_MAX, "more service")}` : "Every task has a node.");
    this._none.hidden = found.length > 0 && found.length <= ROWS_MAX;
    if (!this._none.isConnected || this._list.lastChild !== this._none) this._list.append(this._none);
  }

  _add(id, n) {
    const place = el("div");
    const number = el("span", { class: "soft" });
    const asks = () => {
      fill(place, el("p", { class: "soft" }, "Asking the leader …"));
      this._queue = this._queue.then(() => explainInto(place, explainService(id, this._ends.signal)));
    };
    const element = el("section", { class: "waits" }, el("div", { class: "head" },
      el("h2", null, el("a", { href: link("service", id), "data-row": true }, this._board.services[n][SERVICE.NAME])), stateBadge("pending"), number,
      el("span", { class: "spring" }), el("button", { type: "button", onclick: asks, "aria-label": `Explain ${this._board.services[n][SERVICE.NAME]}` }, "Explain")), place);
    this._rows.set(id, { element, count: number });
    this._list.insertBefore(element, this._none?.isConnected ? this._none : null);
    if (this._rows.size <= ASKED_MAX) asks();
  }

  close() { this._ends.abort(); }
}
