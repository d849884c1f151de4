// All services, with how many of their tasks run and how their updates go on.

import { replicas } from "./bars.js";
import { SERVICE } from "./board.js";
import { el } from "./dom.js";
import { parse } from "./filter.js";
import { FilterBar } from "./filter_bar.js";
import { count, imageName, some } from "./format.js";
import { link } from "./router.js";
import { GROUPS, groupOf, stateBadge, updateTag } from "./states.js";
import { Table } from "./table.js";
import { UpdateProgress } from "./update_progress.js";

const others = (counts, pending) => [
  counts[1] ? [stateBadge("starting"), ` ${count(counts[1])} `] : null,
  counts[2] ? [stateBadge("failed"), ` ${count(counts[2])} `] : null,
  pending ? [stateBadge("pending"), ` ${count(pending)}`] : null,
];

export class Services {
  constructor({ board }) {
    this.title = "Services";
    this._board = board;
    this._progress = new UpdateProgress(board, () => this.update());
    this._bar = new FilterBar({ label: "Search services", choices: ["tasks"], changed: () => this.update() });
    this._table = new Table({
      label: "Services", empty: "No service fits.", sort: 0,
      key: (n) => board.services[n][SERVICE.ID],
      says: (n) => JSON.stringify([board.services[n], [...board.ofService(n)], board.pending.get(n), this._progress.says(n)]),
      columns: [
        { label: "Service", cell: (n) => el("a", { href: link("service", board.services[n][SERVICE.ID]), "data-row": true }, board.services[n][SERVICE.NAME]), sort: (n) => board.services[n][SERVICE.NAME] },
        { label: "Replicas", kind: "wide", cell: (n) => replicas(board.ofService(n), board.services[n][SERVICE.DESIRED]), sort: (n) => board.services[n][SERVICE.DESIRED] },
        { label: "Not running", cell: (n) => others(board.ofService(n), board.pending.get(n)), sort: (n) => board.ofService(n)[2] * 1e6 + (board.pending.get(n) ?? 0) },
        { label: "Update", cell: (n) => [updateTag(board.services[n][SERVICE.UPDATE]), this._progress.cell(n)] },
        { label: "Mode", cell: (n) => board.services[n][SERVICE.MODE], sort: (n) => board.services[n][SERVICE.MODE] },
        { label: "Image", kind: "wide", cell: (n) => el("span", { class: "mono" }, imageName(board.services[n][SERVICE.IMAGE])), sort: (n) => board.services[n][SERVICE.IMAGE] },
      ],
    });
    this.element = [el("h1", null, "Services"), this._bar.element, this._table.element];
  }

  update() {
    const found = [];
    const tokens = parse(this._bar.text).map(([key, value]) => [key, value.toLowerCase()]);
    this._board.services.forEach((row, n) => { if (row && tokens.every((token) => this._fits(row, n, token))) found.push(n); });
    this._table.show(found);
    this._bar.count(some(found.length, "service"));
    this._progress.look(found);
  }

  _fits(row, n, [key, value]) {
    if (key === "" || key === "service") return `${row[SERVICE.NAME]} ${row[SERVICE.IMAGE]}`.toLowerCase().includes(value);
    if (key !== "state") return true;
    const group = GROUPS.findIndex((each) => each.name === value);
    const counts = this._board.ofService(n);
    if (value === "pending" || value === "waiting") return this._board.pending.has(n);
    return counts[group < 0 ? groupOf(value) : group] > 0;
  }

  close() { this._progress.close(); }
}
