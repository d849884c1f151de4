// Orders: each asks first, is given with the newest version of what it changes, and shows what the swarm says to it.

import { get, may, order, part } from "./api.js";
import { ofAvailability, ofForce, ofRole, ofRollback, ofScale } from "./consequences.js";
import { ask } from "./dialog.js";
import { el, toast } from "./dom.js";

const REPLICAS_MAX = 1_000_000; // a slip of the finger is no order; the swarm has bounds of its own

const button = (label, act) => el("button", { type: "button", onclick: act }, label);

function told(text, answer) {
  toast([text, ...(answer.Warnings ?? []).map((each) => `Warning: ${each}`)].join("\n"));
}

async function update(path, change, query = "") {
  const now = await get(path); // what somebody else has changed meanwhile stays
  const spec = change(structuredClone(now.Spec));
  return order(`${path}/update?version=${now.Version.Index}${query}`, spec);
}

/** Returns the buttons for a service, as Docker's API describes it; `tasks`: how many it has. */
export function serviceButtons(service, tasks) {
  const path = `/services/${part(service.ID)}`;
  const { Spec: spec } = service;
  const { Name: name } = spec;
  const replicated = spec.Mode?.Replicated;
  const made = [];
  if (replicated && may("scale")) {
    const from = replicated.Replicas ?? 1;
    made.push(button("Scale…", () => ask({
      title: `Scale ${name}`, verb: "Scale", number: { label: "Replicas", value: from, min: 0, max: REPLICAS_MAX },
      says: (to) => ofScale(spec, from, to),
      act: async (to) => told(`${name} scales to ${to}.`, await update(path, (now) => ({ ...now, Mode: { ...now.Mode, Replicated: { ...now.Mode.Replicated, Replicas: to } } }))),
    })));
  }
  const isJob = Boolean(spec.Mode?.ReplicatedJob || spec.Mode?.GlobalJob);
  if (may("force")) {
    made.push(button(isJob ? "Run again…" : "Force update…", () => ask({
      title: isJob ? `Run ${name} again` : `Replace all tasks of ${name}`, verb: isJob ? "Run again" : "Replace all",
      says: () => (isJob ? [`${name} is run once more, from its beginning.`] : ofForce(spec, tasks)),
      act: async () => told(`${name} is updated.`, await update(path, (now) => ({ ...now, TaskTemplate: { ...now.TaskTemplate, ForceUpdate: (now.TaskTemplate.ForceUpdate ?? 0) + 1 } }))),
    })));
  }
  if (service.PreviousSpec && may("rollback")) {
    made.push(button("Roll back…", () => ask({
      title: `Roll ${name} back`, verb: "Roll back", says: () => ofRollback(spec, service.PreviousSpec, tasks),
      act: async () => told(`${name} rolls back.`, await update(path, (now) => now, "&rollback=previous")),
    })));
  }
  return made;
}

const AVAILABILITY_VERBS = { active: "Activate", pause: "Pause", drain: "Drain" };

/** Returns the buttons for a node; `managers`: how many there are. */
export function nodeButtons(node, tasks, managers) {
  const path = `/nodes/${part(node.ID)}`;
  const name = node.Description?.Hostname || node.ID;
  const made = [];
  if (may("availability")) {
    for (const [to, verb] of Object.entries(AVAILABILITY_VERBS)) {
      if (node.Spec.Availability === to) continue;
      made.push(button(`${verb}…`, () => ask({
        title: `${verb} ${name}`, verb, says: () => ofAvailability(name, to, tasks),
        act: async () => told(`${name} is to be ${to}.`, await update(path, (now) => ({ ...now, Availability: to }))),
      })));
    }
  }
  if (may("role")) {
    const to = node.Spec.Role === "manager" ? "worker" : "manager";
    const verb = to === "manager" ? "Promote" : "Demote";
    made.push(button(`${verb}…`, () => ask({
      title: `${verb} ${name}`, verb, says: () => ofRole(name, to, managers, Boolean(node.ManagerStatus?.Leader)),
      act: async () => told(`${name} is to be a ${to}.`, await update(path, (now) => ({ ...now, Role: to }))),
    })));
  }
  return made;
}
