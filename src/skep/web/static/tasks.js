// Tasks as Docker's API has them, in a table: by slot, each with what it was before.

import { NODE, SERVICE } from "./board.js";
import { explainInto, explainTask } from "./explain.js";
import { el } from "./dom.js";
import { ago, clock, imageName, seconds, shortId } from "./format.js";
import { link } from "./router.js";
import { stateBadge } from "./states.js";
import { Table } from "./table.js";
import { show } from "./dialog.js";

const AT_PLACE = (task) => `${task.ServiceID}.${task.Slot ? task.Slot : task.NodeID ?? ""}`;
const isWanted = (task) => task.DesiredState === "running" || task.DesiredState === "ready" || task.DesiredState === "complete";

/** Returns rows in the order of slots: of each slot the task that is wanted, or the newest, then those before it
 * where it is in `open`. */
export function bySlot(tasks, open) {
  const slots = new Map();
  for (const task of tasks) {
    const key = AT_PLACE(task);
    if (!slots.has(key)) slots.set(key, []);
    slots.get(key).push(task);
  }
  const rows = [];
  const order = (a, b) => (a[1][0].Slot ?? 0) - (b[1][0].Slot ?? 0) || (a[0] < b[0] ? -1 : 1);
  for (const [key, all] of [...slots].sort(order)) {
    all.sort((a, b) => isWanted(b) - isWanted(a) || (a.CreatedAt < b.CreatedAt ? 1 : -1));
    rows.push({ task: all[0], key, before: all.length - 1 });
    if (open.has(key)) for (const task of all.slice(1)) rows.push({ task, key, before: 0, rowClass: "older" });
  }
  return rows;
}

/** A table of tasks; `of`: "service" or "node", what they have in common. */
export class Tasks {
  constructor(board, of) {
    this._board = board;
    this._of = of;
    this._open = new Set();
    this._tasks = [];
    const who = of === "service" ? { label: "Node", cell: ({ task }) => this._node(task) } : { label: "Service", cell: ({ task }) => this._service(task) };
    this._table = new Table({
      label: of === "service" ? "Replicas" : "Tasks", empty: "No tasks.",
      key: ({ task }) => task.ID,
      says: ({ task, key, before, rowClass }) => JSON.stringify([task.Status, task.DesiredState, this.nameOf(task), before, rowClass, this._open.has(key), this._nodeName(task), Math.floor(Date.now() / 60000)]),
      columns: [
        { label: "Task", cell: (row) => this._name(row) },
        who,
        { label: "State", cell: ({ task }) => [stateBadge(task.Status.State), this._wanted(task)] },
        { label: "Since", cell: ({ task }) => this._since(task) },
        { label: "Image", cell: ({ task }) => el("span", { class: "mono" }, imageName(task.Spec?.ContainerSpec?.Image)) },
        { label: "What it says", kind: "wide", cell: ({ task }) => this._says(task) },
        { name: "Explain", cell: (row) => (row.rowClass ? null : el("button", { type: "button", class: "quiet", "aria-label": `Explain ${this.nameOf(row.task)}`, onclick: () => explain(this.nameOf(row.task), row.task.ID) }, "Explain")) },
      ],
    });
    this.element = this._table.element;
  }

  /** Shows these; a board's names are used for what tasks name by id. */
  show(tasks) {
    this._tasks = tasks;
    this._table.show(bySlot(tasks, this._open));
  }

  nameOf(task) {
    const index = this._board.serviceIndex(task.ServiceID);
    const service = index === undefined ? shortId(task.ServiceID) : this._board.services[index][SERVICE.NAME];
    return `${service}.${task.Slot || this._nodeName(task) || shortId(task.ID)}`;
  }

  _name({ task, key, before, rowClass }) {
    if (rowClass) return el("span", { class: "soft", title: task.ID }, "before: ", el("span", { class: "mono" }, shortId(task.ID)));
    const isOpen = this._open.has(key);
    const older = before ? el("button", {
      type: "button", class: "quiet", "aria-expanded": String(isOpen), "aria-label": `${before} earlier of ${this.nameOf(task)}`,
      onclick: () => { if (isOpen) this._open.delete(key); else this._open.add(key); this.show(this._tasks); },
    }, `${isOpen ? "▾" : "▸"} ${before} before`) : null;
    return [el("span", { title: task.ID }, this.nameOf(task)), older];
  }

  _nodeName(task) {
    if (!task.NodeID) return "";
    const index = this._board.nodeIndex(task.NodeID);
    return index === undefined ? shortId(task.NodeID) : this._board.nodes[index][NODE.NAME];
  }

  _node(task) {
    return task.NodeID ? el("a", { href: link("node", task.NodeID), "data-row": true }, this._nodeName(task)) : el("span", { class: "soft" }, "none yet");
  }

  _service(task) {
    const index = this._board.serviceIndex(task.ServiceID);
    return el("a", { href: link("service", task.ServiceID), "data-row": true }, index === undefined ? shortId(task.ServiceID) : this._board.services[index][SERVICE.NAME]);
  }

  _wanted(task) {
    return isWanted(task) || task.DesiredState === task.Status.State ? null : el("span", { class: "soft" }, ` → ${task.DesiredState}`);
  }

  _since(task) {
    const at = seconds(task.Status.Timestamp);
    return el("time", { datetime: at ? task.Status.Timestamp : null, title: clock(at) }, ago(at));
  }

  _says(task) {
    const code = task.Status.ContainerStatus?.ExitCode;
    const said = [task.Status.Message, code ? `exit code ${code}` : ""].filter(Boolean).join(", ");
    return [el("span", { class: "soft" }, said), task.Status.Err ? el("pre", { class: "error" }, task.Status.Err) : null];
  }
}

/** Shows why one task is as it is. */
export function explain(name, id) {
  const ends = new AbortController();
  const place = el("div", null, el("p", { class: "soft" }, "Asking the leader …"));
  const box = el("dialog", { "aria-labelledby": "explained", onclose: () => ends.abort() }, el("form", { method: "dialog" },
    el("h2", { id: "explained" }, `Why ${name} is as it is`), place, el("div", { class: "buttons" }, el("button", { type: "submit" }, "Close"))));
  show(box);
  explainInto(place, explainTask(id, ends.signal));
}
