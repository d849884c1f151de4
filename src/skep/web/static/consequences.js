// What an order will do, in sentences, before it is given. Pure.

import { duration, imageName, some } from "./format.js";

/** How an update goes over a service's tasks. */
function pace(config, tasks) {
  const parallel = config?.Parallelism ?? 1;
  const batch = parallel === 0 || parallel >= tasks ? "All at the same time" : `${some(parallel, "task")} at a time`;
  const delay = config?.Delay ? `, ${duration(config.Delay)} apart` : "";
  const order = config?.Order === "start-first" ? "each new one starts before the old one stops" : "each stops before its new one starts";
  return `${batch}${delay}; ${order}.`;
}

function onFailure(config) {
  const action = config?.FailureAction ?? "pause";
  return { pause: "If new tasks fail, the update pauses.", rollback: "If new tasks fail, it is rolled back.", continue: "If new tasks fail, it goes on all the same." }[action] ?? "";
}

const limits = (spec) => spec.TaskTemplate?.Placement?.MaxReplicas;

export function ofScale(spec, from, to) {
  if (to === from) return [`${spec.Name} has ${some(from, "replica")} now.`];
  if (to === 0) return [`All ${some(from, "task")} of ${spec.Name} ${from === 1 ? "is" : "are"} stopped. The service stays, with no replica.`];
  const sentences = to > from
    ? [`${spec.Name} goes from ${some(from, "replica")} to ${to}: ${some(to - from, "task")} more ${to - from === 1 ? "starts" : "start"}, where there is room.`]
    : [`${spec.Name} goes from ${some(from, "replica")} to ${to}: ${some(from - to, "task")} ${from - to === 1 ? "is" : "are"} stopped.`];
  if (to > from && limits(spec)) sentences.push(`No node takes more than ${some(limits(spec), "replica")} of it.`);
  return sentences;
}

export function ofForce(spec, tasks) {
  return [
    `Every task of ${spec.Name} (${tasks}) is replaced by a new one of the same specification.`,
    pace(spec.UpdateConfig, tasks),
    onFailure(spec.UpdateConfig),
  ].filter(Boolean);
}

/** `before` is the specification that the service goes back to. */
export function ofRollback(spec, before, tasks) {
  const image = (of) => imageName(of.TaskTemplate?.ContainerSpec?.Image);
  const count = (of) => of.Mode?.Replicated?.Replicas;
  const changes = [];
  if (image(spec) !== image(before)) changes.push(`Image: ${image(spec)} becomes ${image(before)}.`);
  if (count(spec) !== count(before)) changes.push(`Replicas: ${count(spec)} become ${count(before)}.`);
  if (changes.length === 0) changes.push("Image and replicas stay; what else the last update changed goes back.");
  return [`${spec.Name} goes back to its specification before the last update.`, ...changes, pace(spec.RollbackConfig, tasks)];
}

export function ofAvailability(name, to, tasks) {
  if (to === "drain") return [tasks ? `The ${some(tasks, "task")} on ${name} ${tasks === 1 ? "is" : "are"} stopped; those of replicated services start on other nodes, where there is room.` : `${name} has no tasks to stop.`, "It gets no new tasks until it is active again."];
  if (to === "pause") return [`${name} gets no new tasks.`, tasks ? `Its ${some(tasks, "task")} ${tasks === 1 ? "goes" : "go"} on.` : "It has none now."];
  return [`${name} takes tasks again.`, "Tasks that run elsewhere stay there; new ones and pending ones may come."];
}

/** `managers`: how many there are now; `isLeader`: whether this node leads. */
export function ofRole(name, to, managers, isLeader) {
  const after = managers + (to === "manager" ? 1 : -1);
  const lost = Math.floor((after - 1) / 2);
  const bears = lost === 0 ? "The swarm cannot do without any of them then." : `${lost} of them may be lost then.`;
  if (to === "manager") {
    return [`${name} becomes a manager: ${after} in place of ${managers}. ${bears}`,
      ...(after % 2 === 0 ? ["An even number bears no more losses than one less."] : []), "A manager has the swarm's store, with its secrets."];
  }
  if (after < 1) return [`${name} is the only manager: the swarm will refuse this.`];
  return [`${name} becomes a worker: ${some(after, "manager")} in place of ${managers}. ${bears}`,
    ...(isLeader ? ["It leads the swarm: another manager takes the lead, and orders wait for some seconds."] : []), "Its tasks go on."];
}
