// Docker's log stream, cut into lines: frames of a kind, three zeros, a length of four bytes, and as much text; or plain text.

const HEAD = 8;
const FRAME_MAX_BYTES = 1 << 20; // a longer one is none: the stream is not what it says
const LINE_MAX = 16_384; // characters kept of a line without an end

/** Takes bytes as they come, gives lines: [is stderr, text]. */
export class Frames {
  constructor(isFramed) {
    this._isFramed = isFramed;
    this._rest = new Uint8Array(0);
    this._texts = { 1: new TextDecoder(), 2: new TextDecoder() }; // a character may be cut by two frames
    this._open = { 1: "", 2: "" };
  }

  take(bytes) {
    if (!this._isFramed) return this._lines(1, bytes);
    const all = new Uint8Array(this._rest.length + bytes.length);
    all.set(this._rest);
    all.set(bytes, this._rest.length);
    const lines = [];
    let at = 0;
    while (all.length - at >= HEAD) {
      const length = new DataView(all.buffer, at + 4, 4).getUint32(0);
      if (length > FRAME_MAX_BYTES) throw new Error("what came is no log stream of Docker's");
      if (all.length - at - HEAD < length) break;
      lines.push(...this._lines(all[at] === 2 ? 2 : 1, all.subarray(at + HEAD, at + HEAD + length)));
      at += HEAD + length;
    }
    this._rest = all.slice(at);
    return lines;
  }

  _lines(kind, bytes) {
    const parts = (this._open[kind] + this._texts[kind].decode(bytes, { stream: true })).split("\n");
    this._open[kind] = parts.pop().slice(0, LINE_MAX);
    return parts.map((text) => [kind === 2, text.slice(0, LINE_MAX).replace(/\r$/, "")]);
  }
}

const DETAILS = /^(\d{4}-\d\d-\d\dT\S+) (?:(\S*com\.docker\.swarm\.\S+) )?(.*)$/s;

/** Returns {at, details, text} of a line that was asked for with timestamps and details. */
export function parseLine(line) {
  const [, at, details, text] = DETAILS.exec(line) ?? [null, "", "", line];
  const named = {};
  for (const pair of (details ?? "").split(",")) {
    const [key, value] = pair.split("=");
    if (value !== undefined) named[key.replace("com.docker.swarm.", "")] = value;
  }
  return { at, details: named, text };
}
