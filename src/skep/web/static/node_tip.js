// A node in a few words: beside the map, and for who hears it.

import { NODE, MANAGER } from "./board.js";
import { el } from "./dom.js";
import { count, some } from "./format.js";
import { AVAILABILITIES, GROUPS, NODE_STATES } from "./states.js";

const SERVICES_MAX = 8;

function about(board, node) {
  const row = board.nodes[node];
  const role = row[NODE.ID] === board.swarm.leader ? "leader" : row[NODE.ROLE] === MANAGER ? "manager" : "worker";
  return `${role}, ${NODE_STATES[row[NODE.STATE]] ?? "unknown"}, ${AVAILABILITIES[row[NODE.AVAILABILITY]] ?? "active"}`;
}

const states = (counts) => GROUPS.map((group, n) => [group, counts[n]]).filter(([, many]) => many > 0)
  .map(([group, many]) => `${count(many)} ${group.name}`).join(", ");

/** Returns one sentence. */
export function describeNode(board, node) {
  return `${board.nodes[node][NODE.NAME]}: ${about(board, node)}; ${states(board.ofNode(node)) || "no tasks"}`;
}

/** Returns the elements of the tip. */
export function tipOf(board, node) {
  const services = board.servicesOn(node);
  const lines = services.slice(0, SERVICES_MAX).map(([, name, counts]) => el("li", null, el("span", null, name), el("span", null, states(counts))));
  const rest = services.length - lines.length;
  return [
    el("b", null, board.nodes[node][NODE.NAME]),
    el("span", { class: "soft" }, about(board, node)),
    el("ul", null, lines, rest > 0 ? el("li", null, el("span", null, `and ${some(rest, "more service")}`)) : null),
    services.length === 0 ? el("p", { class: "soft" }, "no tasks") : null,
  ].filter(Boolean);
}
