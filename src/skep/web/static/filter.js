// The filter: words that are in a name, and `service:`, `node:`, `state:`, `role:`, `availability:`.

import { NODE, SERVICE } from "./board.js";
import { AVAILABILITIES, GROUPS, NODE_STATES, ROLES } from "./states.js";

export const KEYS = ["service", "node", "state", "role", "availability"];
const TOKEN = /(?:([a-z]+):)?(?:"([^"]*)"|(\S+))/gi;

/** Returns the filter's tokens: [[key or "", value], …]; a value with blanks is in quotes. */
export function parse(text) {
  return [...text.matchAll(TOKEN)].map(([whole, key, quoted, bare]) => {
    const name = (key ?? "").toLowerCase();
    return KEYS.includes(name) ? [name, quoted ?? bare] : ["", key ? whole : quoted ?? bare];
  });
}

const show = ([key, value]) => (key ? `${key}:` : "") + (/\s/.test(value) ? `"${value}"` : value);

/** Returns the text with another value for one key; "" takes it out. */
export function withValue(text, key, value) {
  const rest = parse(text).filter(([name]) => name !== key);
  return [...rest, ...(value ? [[key, value]] : [])].map(show).join(" ");
}

export const valueOf = (text, key) => parse(text).find(([name]) => name === key)?.[1] ?? "";

const has = (name, values) => values.some((value) => name.toLowerCase().includes(value));
const among = (word, values) => values.length === 0 || values.includes(word);

/** What fits a filter on a board. Of one key any value will do; keys and words add up. */
export class Filter {
  constructor(text, board) {
    this._board = board;
    const of = (key) => parse(text).filter(([name]) => name === key).map(([, value]) => value.toLowerCase());
    this._words = of("");
    this._node = of("node");
    this._service = of("service");
    this._roles = of("role");
    this._availabilities = of("availability");
    this._nodeStates = of("state").filter((value) => NODE_STATES.includes(value));
    this._taskStates = of("state").filter((value) => !NODE_STATES.includes(value));
    this.isEmpty = parse(text).length === 0;
    this.hasTasks = this._service.length > 0 || this._taskStates.length > 0;
    this._services = new Map();
    const wanted = (code) => among(board.states?.[code], this._taskStates) || this._taskStates.includes(GROUPS[board.groups[code]]?.name);
    this._states = board.groups.map((_, code) => wanted(code));
  }

  /** True where the tokens for services fit; words count where `words`. */
  service(index, words = false) {
    const name = this._board.services[index]?.[SERVICE.NAME] ?? "";
    if (words && !this._words.every((word) => has(name, [word]))) return false;
    if (!this._services.has(index)) this._services.set(index, this._service.length === 0 || has(name, this._service));
    return this._services.get(index);
  }

  state(code) { return this._states[code] ?? false; }

  /** True where a node fits: itself, and by a task of it where tasks are asked for. */
  node(index) {
    const row = this._board.nodes[index];
    if (!row) return false;
    if (!among(ROLES[row[NODE.ROLE]], this._roles) || !among(AVAILABILITIES[row[NODE.AVAILABILITY]], this._availabilities)) return false;
    if (!among(NODE_STATES[row[NODE.STATE]], this._nodeStates)) return false;
    if (this._node.length && !has(row[NODE.NAME], this._node) && !this._node.includes(row[NODE.ID])) return false;
    if (!this.hasTasks && this._words.length === 0) return true;
    const flat = this._board.tasks[index] ?? [];
    if (this.hasTasks && !this._anyTask(flat)) return false;
    return this._words.every((word) => has(row[NODE.NAME], [word]) || this._anyNamed(flat, word));
  }

  _anyTask(flat) {
    for (let at = 0; at + 2 < flat.length; at += 3) if (this.service(flat[at]) && this.state(flat[at + 1])) return true;
    return false;
  }

  _anyNamed(flat, word) {
    for (let at = 0; at + 2 < flat.length; at += 3) {
      if (has(this._board.services[flat[at]]?.[SERVICE.NAME] ?? "", [word])) return true;
    }
    return false;
  }

  /** True where a cell of the map is drawn plainly: a word that names the node names all its tasks. */
  task(nodeIndex, serviceIndex, code) {
    if (!this.service(serviceIndex) || !this.state(code)) return false;
    if (this._words.length === 0) return true;
    const node = this._board.nodes[nodeIndex]?.[NODE.NAME] ?? "";
    const service = this._board.services[serviceIndex]?.[SERVICE.NAME] ?? "";
    return this._words.every((word) => has(node, [word]) || has(service, [word]));
  }
}
