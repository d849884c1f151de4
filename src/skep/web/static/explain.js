// What the leader says of why something is as it is.

import { get, part } from "./api.js";
import { el } from "./dom.js";
import { count } from "./format.js";
import { stateBadge } from "./states.js";

const groups = (nodes, head) => (nodes?.length ? [
  el("h3", null, head),
  el("ul", { class: "groups" }, nodes.map((group) => el("li", null, el("span", { class: "soft" }, `${group.Filter} (${count(group.Count)})`), el("span", null, group.Text)))),
] : null);

const sentences = (said) => el("ul", { class: "sentences" }, said.map((each) => el("li", null, each)));

function ofTask(task) {
  return el("section", { class: "waits" },
    el("h3", null, task.Name, " ", stateBadge(task.State), task.Node ? ` on ${task.Node}` : ""),
    sentences(task.Sentences),
    task.Error ? el("pre", { class: "error" }, task.Error) : null,
    groups(task.Nodes, "What each node says to it now"));
}

/** Returns the elements. Errors: ApiError. */
export async function explainService(id, signal) {
  const said = await get(`/skep/v1/services/${part(id)}/explain`, null, signal);
  return [sentences(said.Sentences), said.Tasks.map(ofTask), groups(said.Nodes, "What each node would say to one task more")];
}

export async function explainTask(id, signal) {
  return [ofTask(await get(`/skep/v1/tasks/${part(id)}/explain`, null, signal))];
}

/** Fills a place with an explanation, or with what went wrong. */
export async function explainInto(place, explaining) {
  try {
    place.replaceChildren(...(await explaining).flat(Infinity).filter(Boolean));
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(el("p", { class: "error" }, error.message));
  }
}
