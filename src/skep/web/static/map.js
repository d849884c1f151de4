// The first view: the swarm in four figures, and the map of its nodes.

import { SERVICE } from "./board.js";
import { MapView } from "./canvas_view.js";
import { Figure } from "./charts.js";
import { el } from "./dom.js";
import { Filter } from "./filter.js";
import { FilterBar } from "./filter_bar.js";
import { count, some } from "./format.js";
import { link } from "./router.js";
import { GROUPS, isUpdating, stateBadge } from "./states.js";

const ONLY_KEY = "skep.only";

export class Overview {
  constructor({ board }) {
    this.title = "Map";
    this._board = board;
    this._map = new MapView(board);
    this._only = el("input", { type: "checkbox", onchange: () => this._filtered() });
    this._only.checked = sessionStorage.getItem(ONLY_KEY) === "yes";
    this._bar = new FilterBar({
      label: "Search nodes and services", choices: ["state", "role", "availability"],
      more: [el("label", { class: "check" }, this._only, "only these")],
      changed: () => this._filtered(), entered: () => this._map.focusFirst(),
    });
    this._nodes = new Figure("Nodes ready", [[1, "running"]]);
    this._tasks = new Figure("Tasks running", [[2, "running"], [3, "soft", true]]);
    this._pending = new Figure("Tasks pending", [[4, "starting"]]);
    this._services = new Figure("Services", []);
    this._figures = [this._nodes, this._tasks, this._pending, this._services];
    this._table = el("a", null, "The same as a table");
    this.element = [
      el("h1", { class: "hidden" }, "Map of the swarm"),
      el("section", { class: "figures", "aria-label": "The swarm in numbers" }, this._figures.map((figure) => figure.element)),
      this._bar.element,
      this._map.element,
      el("div", { class: "head" }, el("ul", { class: "legend" },
        GROUPS.filter((group) => group.name !== "waiting").map((group) => el("li", { title: group.says }, stateBadge(group.name))),
        el("li", null, el("span", { class: "tag strong" }, "outlined"), "manager"),
        el("li", null, el("span", { class: "corner", "aria-hidden": "true" }), "has failed tasks"), el("li", null, "✕ down"), el("li", null, "? unknown"), el("li", null, "P paused"), el("li", null, "D drained"),
        el("li", null, this._table)), el("span", { class: "spring" }), this._map.buttons),
    ];
  }

  update() {
    this._filtered();
    const { nodes, ready, managers, services, wanted, pending, running } = this._board.summary();
    const failed = this._board.total[2];
    this._nodes.number(count(ready), ` of ${count(nodes)}`, `${some(managers, "manager")}${ready < nodes ? `, ${count(nodes - ready)} not ready` : ""}`);
    this._tasks.number(count(running), ` of ${count(wanted)}`, failed ? `${count(failed)} failed` : `${count(this._board.total[1])} starting`);
    this._pending.number(count(pending), "", pending ? `of ${some(this._board.pending.size, "service")}` : "all have a node");
    const updates = this._board.services.filter((row) => row && isUpdating(row[SERVICE.UPDATE])).length;
    this._services.number(count(services), "", updates ? `${count(updates)} being updated` : "none is being updated");
    for (const figure of this._figures) figure.history(this._board.history);
  }

  _filtered() {
    const filter = new Filter(this._bar.text, this._board);
    sessionStorage.setItem(ONLY_KEY, this._only.checked ? "yes" : "no");
    const found = this._map.show(filter, this._only.checked && !filter.isEmpty);
    this._bar.count(filter.isEmpty ? some(found, "node") : `${some(found, "node")} of ${count(this._board.nodes.filter(Boolean).length)}`);
    this._table.setAttribute("href", link("nodes", "", "", this._bar.text));
  }

  recolour() {
    this._map.recolour();
    for (const figure of this._figures) figure.recolour();
  }

  close() {
    this._map.close();
    for (const figure of this._figures) figure.close();
  }
}
