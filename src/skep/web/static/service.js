// One service: its replicas with all they say, why it is as it is, its output, its events, what it is made of.

import { serviceButtons } from "./actions.js";
import { get, part, sessionAsked } from "./api.js";
import { replicas } from "./bars.js";
import { NODE, SERVICE } from "./board.js";
import { el, fill, fillButtons } from "./dom.js";
import { Events } from "./events.js";
import { explainInto, explainService } from "./explain.js";
import { count, imageName } from "./format.js";
import { Logs } from "./logs.js";
import { Refresh } from "./refresh.js";
import { link } from "./router.js";
import { facts } from "./service_facts.js";
import { GROUPS, isUpdating, stateBadge, updateTag } from "./states.js";
import { Table } from "./table.js";
import { Tasks } from "./tasks.js";
import { TASKS_MAX, upToDate, updateBar } from "./update_progress.js";

const PARTS = { replicas: "Replicas", explain: "Explain", logs: "Logs", events: "Events", about: "About" };

export class ServiceView {
  constructor({ board }, { id, part: section }) {
    this._board = board;
    this._id = id;
    this._part = section in PARTS ? section : "replicas";
    this.title = this._name();
    this._parts = [];
    this._title = el("h1", null, this._name());
    this._buttons = el("div", { class: "filters" });
    this._state = el("div", { class: "head" });
    this._update = el("div");
    this._problem = el("p", { class: "error", role: "alert" });
    this._problem.hidden = true;
    this._place = el("div", { class: "stack" });
    this.element = [
      el("p", { class: "crumbs" }, el("a", { href: link("services") }, "Services"), " /"),
      el("div", { class: "head" }, this._title, el("span", { class: "spring" }), this._buttons),
      this._state, this._update, this._problem,
      el("nav", { class: "tabs", "aria-label": "Parts of the service" }, Object.entries(PARTS).map(([name, label]) =>
        el("a", { href: link("service", id, name === "replicas" ? "" : name), "aria-current": name === this._part ? "page" : null }, label))),
      this._place,
    ];
    this._open();
    this._refresh = new Refresh((signal) => this._read(signal));
  }

  _index() { return this._board.serviceIndex(this._id); }

  _name() {
    const n = this._index();
    return n === undefined ? this._id : this._board.services[n][SERVICE.NAME];
  }

  _isLarge() {
    const n = this._index();
    return n !== undefined && Math.max(this._board.services[n][SERVICE.DESIRED], this._board.running(n)) > TASKS_MAX;
  }

  _open() {
    const open = { explain: () => this._explain(), logs: () => this._logs(), events: () => this._events(), about: () => {}, replicas: () => this._replicas() };
    open[this._part]();
  }

  _replicas() {
    if (this._isLarge()) {
      this._table = this._byNode();
      this._place.append(el("p", { class: "soft" }, `These are too many replicas to list; here they are by node. Open a node for its tasks, Explain for what fails.`), this._table.element);
    } else this._place.append((this._tasks = new Tasks(this._board, "service")).element);
  }

  _byNode() {
    const board = this._board;
    return new Table({
      label: "Replicas by node", empty: "No node has tasks of it.", sort: 1, descending: true,
      key: ([n]) => board.nodes[n][NODE.ID], says: ([n, counts]) => JSON.stringify([board.nodes[n], [...counts]]),
      columns: [
        { label: "Node", cell: ([n]) => el("a", { href: link("node", board.nodes[n][NODE.ID]), "data-row": true }, board.nodes[n][NODE.NAME]), sort: ([n]) => board.nodes[n][NODE.NAME] },
        { label: "Replicas", kind: "number", cell: ([, counts]) => count(counts.reduce((a, b) => a + b, 0)), sort: ([, counts]) => counts.reduce((a, b) => a + b, 0) },
        { label: "By state", kind: "wide", cell: ([, counts]) => GROUPS.map((group, g) => (counts[g] ? [stateBadge(group.name), ` ${count(counts[g])} `] : null)), sort: ([, counts]) => counts[2] },
      ],
    });
  }

  _nodeRows() {
    const service = this._index(), board = this._board, rows = [];
    board.tasks.forEach((flat, n) => {
      if (!board.nodes[n]) return;
      let counts = null;
      for (let at = 0; at + 2 < flat.length; at += 3) {
        if (flat[at] === service) (counts ??= new Int32Array(GROUPS.length))[board.groups[flat[at + 1]] ?? 0] += flat[at + 2];
      }
      if (counts) rows.push([n, counts]);
    });
    return rows;
  }

  _explain() {
    this._ends = new AbortController();
    const place = el("div", null, el("p", { class: "soft" }, "Asking the leader …"));
    const again = () => explainInto(place, explainService(this._id, this._ends.signal));
    this._place.append(el("section", { class: "panel stack" }, el("div", { class: "head" }, el("h2", null, "Why it is as it is"), el("span", { class: "spring" }), el("button", { type: "button", onclick: again }, "Ask again")), place));
    again();
  }

  _logs() {
    this._slots = new Map();
    this._output = new Logs(this._board, "services", this._id, (task) => this._slots.get(task));
    this._parts.push(this._output);
    this._place.append(this._output.element);
  }

  _events() {
    const events = new Events({ type: ["service", "task"], service: [this._id] });
    this._parts.push(events);
    this._place.append(events.element);
  }

  /** What the board says is shown at once. */
  update() {
    const n = this._index();
    if (n === undefined) {
      fill(this._state, el("span", { class: "tag bad" }, "removed, or not known to this swarm"));
      return;
    }
    const row = this._board.services[n];
    const says = JSON.stringify([row, [...this._board.ofService(n)], this._board.pending.get(n)]);
    if (says === this._said) return;
    this._said = says;
    const pending = this._board.pending.get(n);
    fill(this._state,
      el("span", null, replicas(this._board.ofService(n), row[SERVICE.DESIRED])),
      el("span", { class: "tag" }, row[SERVICE.MODE]), updateTag(row[SERVICE.UPDATE]),
      pending ? el("a", { href: link("service", this._id, "explain") }, stateBadge("pending"), ` ${count(pending)}: why?`) : null,
      el("span", { class: "mono soft" }, imageName(row[SERVICE.IMAGE])));
    this._title.textContent = row[SERVICE.NAME];
    if (this._table) this._table.show(this._nodeRows());
    this._refresh.soon();
  }

  async _read(signal) {
    try {
      await sessionAsked;
      const service = await get(`/services/${part(this._id)}`, null, signal);
      await this._showService(service, signal);
      if (!this._isLarge() && (this._tasks || this._slots)) this._showTasks(await get("/tasks", { service: [this._id] }, signal));
      if (this._part === "about") await this._showFacts(service, signal);
      this._problem.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this._problem.textContent = error.message;
      this._problem.hidden = false;
    }
  }

  _showTasks(tasks) {
    this._tasks?.show(tasks);
    if (!this._slots) return;
    const named = this._tasks ?? new Tasks(this._board, "service");
    const known = this._slots.size;
    for (const task of tasks) this._slots.set(task.ID, named.nameOf(task));
    if (this._slots.size > known) this._output.rename();
  }

  async _showService(service, signal) {
    const n = this._index();
    const tasks = n === undefined ? 0 : Math.max(this._board.services[n][SERVICE.DESIRED], this._board.running(n));
    const says = JSON.stringify([service.Version, tasks]);
    if (says !== this._buttonsSaid) {
      fillButtons(this._buttons, serviceButtons(service, tasks));
      this._buttonsSaid = says;
    }
    const status = service.UpdateStatus;
    if (!status?.State) { fill(this._update); return; }
    const done = isUpdating(status.State) && !this._isLarge() ? await upToDate(this._id, signal) : null;
    fill(this._update, el("section", { class: "panel" }, el("div", { class: "head" }, el("h2", null, "Last update"), updateTag(status.State),
      done === null ? null : updateBar(done, tasks), el("span", { class: "soft" }, status.Message ?? ""))));
  }

  async _showFacts(service, signal) {
    const networks = new Map((await get("/networks", null, signal)).map((each) => [each.Id, each.Name]));
    const says = JSON.stringify([service, [...networks]]);
    if (says === this._factsSaid) return;
    this._factsSaid = says;
    fill(this._place, facts(service, networks));
  }

  close() {
    this._refresh.close();
    this._ends?.abort();
    for (const each of this._parts) each.close();
  }
}
