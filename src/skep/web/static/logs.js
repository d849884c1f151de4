// A service's or a task's output, followed. Bounded: the page keeps the last lines, the swarm has the rest.

import { follow, part } from "./api.js";
import { NODE } from "./board.js";
import { el, setText } from "./dom.js";
import { clock, count, seconds, shortId } from "./format.js";
import { Frames, parseLine } from "./log_frames.js";

const TAIL = 200;
const LINES_MAX = 2000; // in the page: each is an element
const PAINT_MS = 100;
const AGAIN_S = 3;
const LATE_S = 2; // that one task's lines may be behind another one's: asked for again after a break

/** `kind`: "services" or "tasks". */
export class Logs {
  constructor(board, kind, id, slots = () => "") {
    Object.assign(this, { _board: board, _kind: kind, _id: id, _slots: slots, _waiting: [], _count: 0, _paused: false });
    this._lines = el("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Output", tabindex: "0" });
    this._find = el("input", { type: "search", id: "search", placeholder: "Only lines with …", "aria-label": "Only lines with", maxlength: "200", oninput: () => this._filter() });
    this._pause = el("button", { type: "button", "aria-pressed": "false", onclick: () => this._toggle() }, "Pause");
    this._state = el("span", { class: "count" }, "connecting");
    this.element = el("div", { class: "stack" }, el("div", { class: "filters" }, this._find, this._pause, this._state), this._lines);
    this._ends = new AbortController();
    this._timer = setInterval(() => this._paint(), PAINT_MS);
    this._newest = 0; // unix seconds
    this._last = new Map(); // of each task, when its last line was said
    this._before = new Map(); // the same, when the stream broke: those lines come again
    this._follow();
  }

  close() {
    this._ends.abort();
    clearInterval(this._timer);
    clearTimeout(this._again);
  }

  async _follow() {
    const since = this._newest ? `&since=${Math.floor(this._newest - LATE_S)}` : `&tail=${TAIL}`;
    this._before = new Map(this._last);
    try {
      const response = await follow(`/${this._kind}/${part(this._id)}/logs?follow=1&stdout=1&stderr=1&timestamps=1&details=1${since}`, this._ends.signal);
      setText(this._state, "follows");
      const frames = new Frames((response.headers.get("Content-Type") ?? "").includes("multiplexed"));
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const [isError, line] of frames.take(value)) this._take(isError, line);
      }
      setText(this._state, "the swarm has ended the stream: asked again soon");
    } catch (error) {
      if (this._ends.signal.aborted) return;
      setText(this._state, error.message);
    }
    if (!this._ends.signal.aborted) this._again = setTimeout(() => this._follow(), AGAIN_S * 1000);
  }

  _take(isError, line) {
    const said = parseLine(line);
    const task = said.details["task.id"] ?? "";
    if (said.at) {
      if (said.at <= (this._before.get(task) ?? "")) return;
      this._last.set(task, said.at);
      this._newest = Math.max(this._newest, seconds(said.at));
    }
    this._waiting.push([isError, said]);
    if (this._waiting.length > LINES_MAX) this._waiting.shift();
  }

  _paint() {
    if (this._paused || this._waiting.length === 0) return;
    const atEnd = this._lines.scrollHeight - this._lines.scrollTop - this._lines.clientHeight < 40;
    this._lines.append(...this._waiting.map((each) => this._line(...each)));
    this._waiting = [];
    while (this._lines.children.length > LINES_MAX) this._lines.firstChild.remove();
    if (atEnd) this._lines.scrollTop = this._lines.scrollHeight;
    this._tell();
  }

  _line(isError, { at, details, text }) {
    const from = this._from(details["task.id"] ?? "", details["node.id"] ?? "");
    const made = el("p", null, el("time", { title: at }, at ? clock(seconds(at)) : ""),
      el("span", { class: "from", title: from, "data-task": details["task.id"], "data-node": details["node.id"] }, from),
      el("span", { class: "err", title: isError ? "standard error" : null }, isError ? "E" : ""), el("span", { class: "line" }, plain(text)));
    made.hidden = !this._fits(made);
    return made;
  }

  _from(task, id) {
    const node = this._board.nodeIndex(id);
    return [this._slots(task) || shortId(task), node === undefined ? "" : this._board.nodes[node][NODE.NAME]].filter(Boolean).join(" ");
  }

  /** Names tasks that are known only now. */
  rename() {
    for (const from of this._lines.querySelectorAll(".from")) {
      setText(from, this._from(from.dataset.task ?? "", from.dataset.node ?? ""));
      from.title = from.textContent;
    }
  }

  _fits(line) { return line.textContent.toLowerCase().includes(this._find.value.toLowerCase()); }

  _filter() {
    for (const line of this._lines.children) line.hidden = !this._fits(line);
    this._tell();
  }

  _toggle() {
    this._paused = !this._paused;
    this._pause.setAttribute("aria-pressed", String(this._paused));
    setText(this._pause, this._paused ? "Go on" : "Pause");
    this._tell();
  }

  _tell() {
    const waits = this._paused ? `paused, ${count(this._waiting.length)} waiting` : "follows";
    setText(this._state, `${waits}, ${count(this._lines.children.length)} lines`);
  }
}

/** Returns a line without what would colour a terminal. */
const plain = (text) => text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, "").replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "\ufffd");
