// What changes, as it comes: resumed after a break where it stopped, and whole anew where that cannot be.

import { openSession, readBoard } from "./api.js";

const SILENT_S = 45; // the history alone says something every ten seconds
const AGAIN_S = [0.5, 1, 2, 4, 8];

/** `on` hears: board() when something is another, link({state, since, why}). */
export class Stream {
  constructor(board, on) {
    this._board = board;
    this._on = on;
    this._failures = 0;
    this._lostAt = 0;
    this._swarmWhy = "";
    this._swarmLostAt = 0;
    this._source = null;
    this._again = 0;
    this._silence = setInterval(() => this._listenFor(), 5000);
  }

  /** Reads the board whole, then follows. */
  async start() {
    try {
      this._board.load(await readBoard());
      this._on.board();
      this._open();
    } catch (error) {
      this._lost(error.message);
    }
  }

  _open() {
    this._source?.close();
    const source = new EventSource(`/board/stream?after=${encodeURIComponent(`${this._board.epoch}:${this._board.seq}`)}`);
    this._source = source;
    const hear = (name, take) => source.addEventListener(name, (event) => {
      if (source !== this._source) return;
      this._heard();
      take(JSON.parse(event.data));
    });
    source.addEventListener("open", () => { if (source === this._source) this._heard(); });
    source.addEventListener("error", () => { if (source === this._source) this._lost(""); });
    hear("snapshot", (data) => { this._board.load(data); this._on.board(); });
    hear("change", (data) => this._change(data));
    hear("history", (row) => { this._board.addHistory(row); this._on.board(); });
    hear("link", ({ ok, why }) => {
      this._swarmLostAt = ok ? 0 : this._swarmLostAt || Date.now();
      this._swarmWhy = ok ? "" : why || "no manager answers";
      this._tell();
    });
  }

  _change(data) {
    if (data.seq <= this._board.seq) return; // said again after a break
    this._board.change(data);
    this._on.board();
  }

  _heard() {
    this._heardAt = Date.now();
    const was = this._lostAt;
    this._failures = 0;
    this._lostAt = 0;
    if (was || !this._told) this._tell();
  }

  _listenFor() {
    if (this._source && this._heardAt && Date.now() - this._heardAt > SILENT_S * 1000) this._lost("it has gone silent");
  }

  _lost(why) {
    this._source?.close();
    this._source = null;
    this._lostAt ||= Date.now();
    this._why = why;
    this._tell();
    clearTimeout(this._again);
    const wait = AGAIN_S[Math.min(this._failures++, AGAIN_S.length - 1)] * 1000;
    this._again = setTimeout(() => this._retry(), wait);
  }

  async _retry() {
    try {
      await openSession(); // an EventSource does not say why it was refused
    } catch (error) {
      this._lost(error.message);
      return;
    }
    if (this._board.epoch) this._open();
    else await this.start();
  }

  _tell() {
    this._told = true;
    if (this._lostAt) this._on.link({ state: "lost", since: this._lostAt, why: this._why });
    else if (this._swarmLostAt) this._on.link({ state: "lost", since: this._swarmLostAt, why: `The swarm does not answer: ${this._swarmWhy}` });
    else this._on.link({ state: "live", since: 0, why: "" });
  }
}
