// What a service is: its specification in the words of its flags, its networks, secrets and configs by name.

import { el } from "./dom.js";
import { bytes, clock, cores, duration, imageName, seconds, some } from "./format.js";

const pairs = (rows) => el("dl", { class: "pairs" }, rows.filter(([, value]) => value !== "" && value !== null && value !== undefined && value?.length !== 0)
  .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]));

const lines = (values) => values.map((value) => el("div", null, value));
const labels = (map) => lines(Object.entries(map ?? {}).map(([key, value]) => (value ? `${key} = ${value}` : key)));

export { labels, lines, pairs };

const resources = (of) => [of?.NanoCPUs ? `${cores(of.NanoCPUs / 1e9)} cores` : "", of?.MemoryBytes ? bytes(of.MemoryBytes) : ""].filter(Boolean).join(", ");

const mount = (each) => `${each.Type} ${each.Source ?? ""} → ${each.Target}${each.ReadOnly ? " (read-only)" : ""}`;
const port = (each) => `${each.PublishedPort || "any port"} → ${each.TargetPort}/${each.Protocol ?? "tcp"}${each.PublishMode === "host" ? ", on the task's host" : ""}`;

function updates(config) {
  if (!config) return "";
  const many = config.Parallelism ? `${config.Parallelism} at a time` : "all at a time";
  return `${many}${config.Delay ? `, ${duration(config.Delay)} apart` : ""}, ${config.Order ?? "stop-first"}, on failure ${config.FailureAction ?? "pause"}`;
}

/** Returns the panels; `networks`: names by id. */
export function facts(service, networks) {
  const { Spec: spec } = service;
  const task = spec.TaskTemplate ?? {};
  const container = task.ContainerSpec ?? {};
  const attached = [...(task.Networks ?? []), ...(spec.Networks ?? [])];
  const vips = new Map((service.Endpoint?.VirtualIPs ?? []).map((each) => [each.NetworkID, each.Addr]));
  return el("div", { class: "columns" },
    el("section", { class: "panel" }, el("h2", null, "Container"), pairs([
      ["Image", el("span", { class: "mono" }, imageName(container.Image))],
      ["Pinned at", (container.Image ?? "").split("@")[1] ?? ""],
      ["Command", [...(container.Command ?? []), ...(container.Args ?? [])].join(" ")],
      ["User", container.User], ["Variables", (container.Env ?? []).map((each) => each.split("=")[0]).join(", ")],
      ["Mounts", lines((container.Mounts ?? []).map(mount))],
      ["Reserved", resources(task.Resources?.Reservations)], ["Limited to", resources(task.Resources?.Limits)],
      ["Restarts", task.RestartPolicy ? `${task.RestartPolicy.Condition ?? "any"}${task.RestartPolicy.MaxAttempts ? `, ${some(task.RestartPolicy.MaxAttempts, "time")} at most` : ""}` : ""],
    ])),
    el("section", { class: "panel" }, el("h2", null, "Placement and updates"), pairs([
      ["Constraints", lines(task.Placement?.Constraints ?? [])],
      ["Spread over", lines((task.Placement?.Preferences ?? []).map((each) => each.Spread?.SpreadDescriptor ?? ""))],
      ["Per node", task.Placement?.MaxReplicas ? `${some(task.Placement.MaxReplicas, "replica")} at most` : ""],
      ["Updates", updates(spec.UpdateConfig)], ["Rollbacks", updates(spec.RollbackConfig)],
      ["Created", clock(seconds(service.CreatedAt))], ["Changed", clock(seconds(service.UpdatedAt))],
      ["ID", el("span", { class: "mono" }, service.ID)],
    ])),
    el("section", { class: "panel" }, el("h2", null, "Networks, secrets, configs"), pairs([
      ["Ports", lines((service.Endpoint?.Ports ?? spec.EndpointSpec?.Ports ?? []).map(port))],
      ["Networks", lines(attached.map((each) => `${networks.get(each.Target) ?? each.Target}${vips.has(each.Target) ? ` (${vips.get(each.Target)})` : ""}`))],
      ["Secrets", lines((container.Secrets ?? []).map((each) => `${each.SecretName} → ${each.File?.Name ?? "its name"}`))],
      ["Configs", lines((container.Configs ?? []).map((each) => `${each.ConfigName} → ${each.File?.Name ?? "its name"}`))],
      ["Labels", labels(spec.Labels)], ["Containers' labels", labels(container.Labels)],
    ])));
}
