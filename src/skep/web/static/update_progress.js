// How far updates are: of how many tasks that are of the newest version run. Asked of the swarm, for a few services.

import { get } from "./api.js";
import { SERVICE } from "./board.js";
import { el } from "./dom.js";
import { count } from "./format.js";
import { isUpdating } from "./states.js";

const SERVICES_MAX = 5;
export const TASKS_MAX = 500; // of a service whose tasks are read whole: one is 2 kB
const EACH_S = 3;

export class UpdateProgress {
  constructor(board, changed) {
    this._board = board;
    this._changed = changed;
    this._known = new Map();
    this._asked = new Map(); // service id -> when
    this._ends = new AbortController();
  }

  /** Asks for those of these services that are updated now. */
  look(services) {
    const board = this._board;
    const wanted = services.filter((n) => isUpdating(board.services[n][SERVICE.UPDATE]) && board.services[n][SERVICE.DESIRED] <= TASKS_MAX);
    for (const n of wanted.slice(0, SERVICES_MAX)) {
      const id = board.services[n][SERVICE.ID];
      if (Date.now() - (this._asked.get(id) ?? 0) < EACH_S * 1000) continue;
      this._asked.set(id, Date.now());
      this._ask(n, id);
    }
  }

  async _ask(n, id) {
    const done = await upToDate(id, this._ends.signal).catch(() => null); // it stays as it was; the view says what fails
    if (done === null || this._ends.signal.aborted) return;
    this._known.set(n, done);
    this._changed();
  }

  says(n) { return isUpdating(this._board.services[n][SERVICE.UPDATE]) ? this._known.get(n) : undefined; }

  cell(n) {
    const done = this.says(n);
    return done === undefined ? null : [" ", updateBar(done, this._board.services[n][SERVICE.DESIRED])];
  }

  close() { this._ends.abort(); }
}

/** Returns how many running tasks of a service are of its newest version. */
export async function upToDate(id, signal) {
  const tasks = await get("/tasks", { service: [id], "_up-to-date": ["true"], "desired-state": ["running"] }, signal);
  return tasks.filter((task) => task.Status.State === "running").length;
}

export function updateBar(done, desired) {
  const bar = el("i", { class: "running" });
  bar.style.width = `${Math.min(100, (done / Math.max(1, desired)) * 100)}%`;
  return el("span", null, `${count(done)} of ${count(desired)} new`, el("span", { class: "bar", "aria-hidden": "true" }, bar));
}
