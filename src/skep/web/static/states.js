// What states are called and how they look: by a shape and a word each, then by a colour.

import { el } from "./dom.js";

/** Groups of Docker's fourteen task states, in the order in which cells are drawn. */
export const GROUPS = [
  { name: "running", shape: "●", says: "runs" },
  { name: "starting", shape: "◐", says: "is on its way: assigned, being prepared, or starting" },
  { name: "failed", shape: "✕", says: "failed, was rejected, or is lost with its node" },
  { name: "waiting", shape: "○", says: "has no node yet" },
  { name: "ended", shape: "▪", says: "has done its work, or was ended" },
];
export const RUNNING = 0;
const GROUP = Object.fromEntries(GROUPS.map((group, n) => [group.name, n]));
const OF_STATE = {
  new: "waiting", pending: "waiting", assigned: "starting", accepted: "starting", preparing: "starting",
  ready: "starting", starting: "starting", running: "running", complete: "ended", shutdown: "ended", remove: "ended",
  failed: "failed", rejected: "failed", orphaned: "failed",
};

/** Returns the index in GROUPS of a state's name, or a group's own. */
export const groupOf = (state) => GROUP[OF_STATE[state] ?? state] ?? GROUP.waiting;

export function stateBadge(state) {
  const group = GROUPS[groupOf(state)];
  return el("span", { class: `state state-${group.name}` }, el("i", { "aria-hidden": "true" }, group.shape), state);
}

export const ROLES = ["worker", "manager"];
export const NODE_STATES = ["unknown", "ready", "down"];
export const AVAILABILITIES = ["active", "pause", "drain"];
const NODE_SHAPES = { ready: ["●", "running"], down: ["✕", "failed"], unknown: ["?", "starting"], disconnected: ["?", "starting"] };

export function nodeBadge(state) {
  const [shape, like] = NODE_SHAPES[state] ?? NODE_SHAPES.unknown;
  return el("span", { class: `state state-${like}` }, el("i", { "aria-hidden": "true" }, shape), state);
}

export function availabilityTag(availability) {
  return el("span", { class: availability === "active" ? "tag" : "tag warn" }, availability);
}

/** How an update stands, by Docker's names for it. */
const UPDATES = {
  updating: ["updating", "warn"], paused: ["update paused", "bad"], completed: ["updated", ""],
  rollback_started: ["rolling back", "warn"], rollback_paused: ["rollback paused", "bad"], rollback_completed: ["rolled back", "warn"],
};

export function updateTag(state) {
  if (!state) return null;
  const [word, kind] = UPDATES[state] ?? [state, ""];
  return el("span", { class: `tag ${kind}` }, word);
}

export const isUpdating = (state) => state === "updating" || state === "rollback_started";
