// The swarm as the page knows it: a snapshot, and what has changed since. Indexes are stable within an epoch.

import { GROUPS, RUNNING, groupOf } from "./states.js";

export const NODE = { ID: 0, NAME: 1, ROLE: 2, STATE: 3, AVAILABILITY: 4 };
export const SERVICE = { ID: 0, NAME: 1, MODE: 2, DESIRED: 3, IMAGE: 4, UPDATE: 5 };
export const READY = 1;
export const MANAGER = 1;
const HISTORY_MAX = 400; // rows: an hour of one each ten seconds is 360

const noCounts = () => new Int32Array(GROUPS.length);

export class Board {
  constructor() {
    this.epoch = "";
    this.seq = 0;
    this.at = 0;
    this.swarm = { id: "", leader: "", version: "" };
    this.nodes = [];
    this.services = [];
    this.tasks = []; // per node: [service index, state code, count, …]
    this.history = [];
    this.naming = 0; // another one when a node comes, goes, or has another name
    this.pending = new Map(); // service index -> count
    this._reset();
  }

  _reset() {
    this.groups = []; // state code -> group
    this.byService = []; // service index -> counts by group
    this.byNode = []; // node index -> counts by group
    this.total = noCounts();
    this._nodeById = new Map();
    this._serviceById = new Map();
  }

  /** Takes a whole snapshot. */
  load(snapshot) {
    this._reset();
    this.naming += 1;
    Object.assign(this, {
      epoch: snapshot.epoch, seq: snapshot.seq, at: snapshot.at, swarm: snapshot.swarm, nodes: snapshot.nodes,
      services: snapshot.services, tasks: snapshot.tasks, history: snapshot.history ?? this.history,
    });
    this.groups = snapshot.states.map(groupOf);
    this.states = snapshot.states;
    this.nodes.forEach((row, n) => row && this._nodeById.set(row[NODE.ID], n));
    this.services.forEach((row, n) => row && this._serviceById.set(row[SERVICE.ID], n));
    for (let n = 0; n < this.nodes.length; n++) this._count(n, this.tasks[n] ??= [], 1);
    this._pending(snapshot.pending);
  }

  /** Takes a change; only what it names is counted anew. */
  change(delta) {
    this.seq = delta.seq;
    this.at = delta.at;
    if (delta.leader !== undefined) this.swarm = { ...this.swarm, leader: delta.leader };
    for (const [n, row] of delta.services ?? []) {
      this._place(this.services, this._serviceById, n, row);
    }
    for (const [n, row] of delta.nodes ?? []) {
      if (row?.[NODE.NAME] !== this.nodes[n]?.[NODE.NAME]) this.naming += 1;
      this._place(this.nodes, this._nodeById, n, row);
      this.tasks[n] ??= [];
      if (!row) this._retell(n, []);
    }
    for (const [n, flat] of delta.tasks ?? []) this._retell(n, flat);
    if (delta.pending) this._pending(delta.pending);
  }

  addHistory(row) {
    if (row[0] <= (this.history.at(-1)?.[0] ?? 0)) return; // said again after a break
    this.history.push(row);
    if (this.history.length > HISTORY_MAX) this.history.splice(0, this.history.length - HISTORY_MAX);
  }

  _place(rows, byId, n, row) {
    while (rows.length < n) rows.push(null);
    if (rows[n]) byId.delete(rows[n][0]);
    rows[n] = row;
    if (row) byId.set(row[0], n);
  }

  _retell(n, flat) {
    this._count(n, this.tasks[n] ?? [], -1);
    this.tasks[n] = flat;
    this._count(n, flat, 1);
  }

  _count(n, flat, sign) {
    const ofNode = (this.byNode[n] ??= noCounts());
    for (let at = 0; at + 2 < flat.length; at += 3) {
      const group = this.groups[flat[at + 1]] ?? 0;
      const count = flat[at + 2] * sign;
      ofNode[group] += count;
      (this.byService[flat[at]] ??= noCounts())[group] += count;
      this.total[group] += count;
    }
  }

  _pending(flat) {
    this.pending = new Map();
    for (let at = 0; at + 1 < flat.length; at += 2) if (flat[at + 1]) this.pending.set(flat[at], flat[at + 1]);
  }

  nodeIndex(id) { return this._nodeById.get(id); }
  serviceIndex(id) { return this._serviceById.get(id); }
  ofService(n) { return this.byService[n] ?? noCounts(); }
  ofNode(n) { return this.byNode[n] ?? noCounts(); }
  running(n) { return this.ofService(n)[RUNNING]; }

  /** Returns the nodes' indexes by name, node9 before node10. */
  nodesByName() {
    if (this._sortedAt !== this.naming) {
      const order = new Intl.Collator("en", { numeric: true });
      this._sorted = [...this.nodes.keys()].filter((n) => this.nodes[n]).sort((a, b) => order.compare(this.nodes[a][NODE.NAME], this.nodes[b][NODE.NAME]));
      this._sortedAt = this.naming;
    }
    return this._sorted;
  }

  /** Returns how many tasks a node has. */
  tasksOn(n) { return this.ofNode(n).reduce((sum, each) => sum + each, 0); }

  /** Returns [index, name, counts by group] of the services on a node, most tasks first. */
  servicesOn(n) {
    const found = new Map();
    const flat = this.tasks[n] ?? [];
    for (let at = 0; at + 2 < flat.length; at += 3) {
      if (!found.has(flat[at])) found.set(flat[at], noCounts());
      found.get(flat[at])[this.groups[flat[at + 1]] ?? 0] += flat[at + 2];
    }
    const rows = [...found].map(([index, counts]) => [index, this.services[index]?.[SERVICE.NAME] ?? "(removed)", counts]);
    const size = (counts) => counts.reduce((sum, each) => sum + each, 0);
    return rows.sort((a, b) => size(b[2]) - size(a[2]) || (a[1] < b[1] ? -1 : 1));
  }

  /** Returns the numbers of the whole swarm. */
  summary() {
    let nodes = 0, ready = 0, managers = 0, services = 0, wanted = 0, pending = 0;
    for (const row of this.nodes) {
      if (!row) continue;
      nodes += 1;
      ready += row[NODE.STATE] === READY ? 1 : 0;
      managers += row[NODE.ROLE] === MANAGER ? 1 : 0;
    }
    for (const row of this.services) {
      if (!row) continue;
      services += 1;
      wanted += row[SERVICE.DESIRED];
    }
    for (const count of this.pending.values()) pending += count;
    return { nodes, ready, managers, services, wanted, pending, running: this.total[RUNNING] };
  }
}
