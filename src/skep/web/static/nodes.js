// The map as a table: all nodes, with what is on them.

import { MANAGER, NODE } from "./board.js";
import { el } from "./dom.js";
import { Filter } from "./filter.js";
import { FilterBar } from "./filter_bar.js";
import { count, some } from "./format.js";
import { link } from "./router.js";
import { AVAILABILITIES, GROUPS, NODE_STATES, ROLES, availabilityTag, nodeBadge, stateBadge } from "./states.js";
import { Table } from "./table.js";

export function roleTag(board, row) {
  if (row[NODE.ID] === board.swarm.leader) return el("span", { class: "tag strong" }, "leader");
  return row[NODE.ROLE] === MANAGER ? el("span", { class: "tag strong" }, "manager") : el("span", { class: "tag" }, ROLES[0]);
}

export class Nodes {
  constructor({ board }) {
    this.title = "Nodes";
    this._board = board;
    const row = (n) => board.nodes[n];
    this._bar = new FilterBar({ label: "Search nodes", choices: ["state", "role", "availability"], changed: () => this.update() });
    this._table = new Table({
      label: "Nodes", empty: "No node fits.", sort: 0,
      key: (n) => row(n)[NODE.ID],
      says: (n) => JSON.stringify([row(n), [...board.ofNode(n)], row(n)[NODE.ID] === board.swarm.leader]),
      columns: [
        { label: "Node", cell: (n) => el("a", { href: link("node", row(n)[NODE.ID]), "data-row": true }, row(n)[NODE.NAME]), sort: (n) => row(n)[NODE.NAME] },
        { label: "State", cell: (n) => nodeBadge(NODE_STATES[row(n)[NODE.STATE]] ?? "unknown"), sort: (n) => row(n)[NODE.STATE] },
        { label: "Availability", cell: (n) => availabilityTag(AVAILABILITIES[row(n)[NODE.AVAILABILITY]] ?? "active"), sort: (n) => row(n)[NODE.AVAILABILITY] },
        { label: "Role", cell: (n) => roleTag(board, row(n)), sort: (n) => -row(n)[NODE.ROLE] - (row(n)[NODE.ID] === board.swarm.leader ? 1 : 0) },
        { label: "Tasks", kind: "number", cell: (n) => count(board.tasksOn(n)), sort: (n) => board.tasksOn(n) },
        { label: "By state", kind: "wide", cell: (n) => this._states(n), sort: (n) => board.ofNode(n)[2] },
      ],
    });
    this.element = [el("h1", null, "Nodes"), this._bar.element, this._table.element];
  }

  _states(n) {
    const counts = this._board.ofNode(n);
    return GROUPS.map((group, g) => (counts[g] ? [stateBadge(group.name), ` ${count(counts[g])}  `] : null));
  }

  update() {
    const filter = new Filter(this._bar.text, this._board);
    const found = [];
    this._board.nodes.forEach((row, n) => { if (row && filter.node(n)) found.push(n); });
    this._table.show(found);
    this._bar.count(some(found.length, "node"));
  }

  close() {}
}
