// What a view reads of the swarm beside the board: again when the board says so, and now and then by itself.

const LEAST_S = 1.5; // between two reads: a scale-up changes the board many times a second
const MOST_S = 15;

/** `read(signal)` is called at once, after `soon()`, and each quarter of a minute; never twice at a time. */
export class Refresh {
  constructor(read) {
    this._read = read;
    this._ends = new AbortController();
    this._wanted = false;
    this._busy = false;
    this._at = 0;
    this._timer = 0;
    this._run();
  }

  soon() {
    if (this._busy) { this._wanted = true; return; }
    this._plan(Math.max(0, LEAST_S - (Date.now() - this._at) / 1000));
  }

  close() {
    this._ends.abort();
    clearTimeout(this._timer);
  }

  _plan(inS) {
    clearTimeout(this._timer);
    if (!this._ends.signal.aborted) this._timer = setTimeout(() => this._run(), inS * 1000);
  }

  async _run() {
    this._busy = true;
    this._wanted = false;
    this._at = Date.now();
    try {
      await this._read(this._ends.signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      this._busy = false;
      this._plan(this._wanted ? LEAST_S : MOST_S);
    }
  }
}
