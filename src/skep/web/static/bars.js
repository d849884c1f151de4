// N of M replicas, as a number and as a bar.

import { el } from "./dom.js";
import { count } from "./format.js";
import { GROUPS } from "./states.js";

/** Returns the elements; `counts` by group. */
export function replicas(counts, desired) {
  const running = counts[0];
  const whole = Math.max(desired, counts[0] + counts[1] + counts[2], 1);
  const parts = GROUPS.slice(0, 3).map((group, n) => {
    const made = el("i", { class: group.name });
    made.style.width = `${(counts[n] / whole) * 100}%`;
    return made;
  });
  return [
    el("span", { class: running < desired ? "state state-starting" : null }, `${count(running)} / ${count(desired)}`),
    el("span", { class: "bar", "aria-hidden": "true" }, parts),
  ];
}
