// One node: its tasks, what it has, what it says of itself.

import { nodeButtons } from "./actions.js";
import { get, part, sessionAsked } from "./api.js";
import { MANAGER, NODE } from "./board.js";
import { el, fill, fillButtons } from "./dom.js";
import { bytes, cores, count } from "./format.js";
import { roleTag } from "./nodes.js";
import { Refresh } from "./refresh.js";
import { link } from "./router.js";
import { labels, pairs } from "./service_facts.js";
import { AVAILABILITIES, GROUPS, NODE_STATES, availabilityTag, nodeBadge, stateBadge } from "./states.js";
import { Tasks } from "./tasks.js";

const USAGE_S = 15;

export class NodeView {
  constructor({ board }, { id }) {
    this._board = board;
    this._id = id;
    this.title = this._name();
    this._title = el("h1", null, this._name());
    this._buttons = el("div", { class: "filters" });
    this._state = el("div", { class: "head" });
    this._facts = el("div", { class: "columns" });
    this._problem = el("p", { class: "error", role: "alert" });
    this._problem.hidden = true;
    this._tasks = new Tasks(board, "node");
    this._usageAt = 0;
    this.element = [
      el("p", { class: "crumbs" }, el("a", { href: link("nodes") }, "Nodes"), " /"),
      el("div", { class: "head" }, this._title, el("span", { class: "spring" }), this._buttons),
      this._state, this._problem, el("h2", null, "Tasks"), this._tasks.element, this._facts,
    ];
    this._refresh = new Refresh((signal) => this._read(signal));
  }

  _name() {
    const n = this._board.nodeIndex(this._id);
    return n === undefined ? this._id : this._board.nodes[n][NODE.NAME];
  }

  update() {
    const n = this._board.nodeIndex(this._id);
    if (n === undefined) {
      fill(this._state, el("span", { class: "tag bad" }, "removed, or not known to this swarm"));
      return;
    }
    const row = this._board.nodes[n];
    const isLeader = row[NODE.ID] === this._board.swarm.leader;
    const says = JSON.stringify([row, isLeader, this._board.tasks[n]]);
    if (says === this._said) return;
    this._said = says;
    const counts = this._board.ofNode(n);
    fill(this._state, nodeBadge(NODE_STATES[row[NODE.STATE]] ?? "unknown"), availabilityTag(AVAILABILITIES[row[NODE.AVAILABILITY]] ?? "active"),
      roleTag(this._board, row), GROUPS.map((group, g) => (counts[g] ? el("span", null, stateBadge(group.name), ` ${count(counts[g])}`) : null)));
    this._title.textContent = row[NODE.NAME];
    this._refresh.soon();
  }

  async _read(signal) {
    try {
      await sessionAsked;
      const [node, tasks] = await Promise.all([get(`/nodes/${part(this._id)}`, null, signal), get("/tasks", { node: [this._id] }, signal)]);
      this._tasks.show(tasks);
      await this._readUsage(signal);
      this._show(node);
      this._problem.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this._problem.textContent = error.message;
      this._problem.hidden = false;
    }
  }

  /** Not every swarm knows its nodes' usage: then nothing is said of it. */
  async _readUsage(signal) {
    if (this._usage === null || Date.now() - this._usageAt < USAGE_S * 1000) return;
    this._usageAt = Date.now();
    try {
      const said = await get("/skep/v1/nodes/usage", null, signal);
      this._usage = (said.Nodes ?? []).find((each) => each.ID === this._id)?.Usage ?? undefined;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error.status === 404) this._usage = null; // never asked again
    }
  }

  _show(node) {
    const managers = this._board.nodes.filter((row) => row && row[NODE.ROLE] === MANAGER).length;
    const n = this._board.nodeIndex(this._id);
    const tasks = n === undefined ? 0 : this._board.tasksOn(n);
    const buttons = JSON.stringify([node.Version, managers, tasks]);
    if (buttons !== this._buttonsSaid) {
      fillButtons(this._buttons, nodeButtons(node, tasks, managers));
      this._buttonsSaid = buttons;
    }
    const says = JSON.stringify([node, this._usage]);
    if (says === this._factsSaid) return;
    this._factsSaid = says;
    fill(this._facts, this._resources(node), this._itself(node), el("section", { class: "panel" }, el("h2", null, "Labels"),
      pairs([["Of the node", labels(node.Spec.Labels)], ["Of its engine", labels(node.Description?.Engine?.Labels)]]),
      Object.keys({ ...node.Spec.Labels, ...node.Description?.Engine?.Labels }).length === 0 ? el("p", { class: "soft" }, "It has none.") : null));
  }

  _resources(node) {
    const has = node.Description?.Resources ?? {};
    const used = this._usage;
    const generic = (has.GenericResources ?? []).map((each) => {
      const { Kind, Value } = each.NamedResourceSpec ?? each.DiscreteResourceSpec ?? {};
      return el("div", null, `${Kind} ${Value}`);
    });
    return el("section", { class: "panel" }, el("h2", null, "Resources"), pairs([
      ["Processors", [`${cores((has.NanoCPUs ?? 0) / 1e9)} cores`, used ? share(used.CPUCores, has.NanoCPUs / 1e9, `${cores(used.CPUCores)} in use`) : null]],
      ["Memory", [bytes(has.MemoryBytes ?? 0), used ? share(used.MemoryUsedBytes, has.MemoryBytes, `${bytes(used.MemoryUsedBytes)} in use`) : null]],
      ["Load", used?.Load1 === undefined || used?.Load1 === null ? "" : used.Load1.toFixed(2)], ["Others", generic],
    ]));
  }

  _itself(node) {
    const manager = node.ManagerStatus;
    return el("section", { class: "panel" }, el("h2", null, "Itself"), pairs([
      ["Address", node.Status?.Addr], ["Says", node.Status?.Message],
      ["Engine", node.Description?.Engine?.EngineVersion], ["Platform", [node.Description?.Platform?.OS, node.Description?.Platform?.Architecture].filter(Boolean).join("/")],
      ["As a manager", manager ? `${manager.Leader ? "leads, " : ""}${manager.Reachability}, ${manager.Addr}` : ""],
      ["Name", node.Spec.Name], ["ID", el("span", { class: "mono" }, node.ID)],
    ]));
  }

  close() { this._refresh.close(); }
}

function share(used, whole, words) {
  const bar = el("i", { class: "running" });
  bar.style.width = `${Math.min(100, (used / (whole || 1)) * 100)}%`;
  return el("div", { class: "soft" }, words, el("span", { class: "bar", "aria-hidden": "true" }, bar));
}
