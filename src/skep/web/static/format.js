// Numbers and times as people read them.

const NUMBER = new Intl.NumberFormat("en");

export const count = (n) => NUMBER.format(n);

/** Returns "1 task", "2 tasks". */
export const some = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** Returns how long ago, coarsely; `atS` and `nowS` are unix seconds. */
export function ago(atS, nowS = Date.now() / 1000) {
  if (!Number.isFinite(atS) || atS <= 0) return "–";
  const s = Math.max(0, Math.floor(nowS - atS));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return some(Math.floor(s / 86400), "day");
}

/** Returns unix seconds of Docker's time, 0 for none. */
export function seconds(text) {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) || at < 0 ? 0 : at / 1000;
}

/** Returns the time of day, with the date where it is not today's. */
export function clock(atS) {
  if (!atS) return "–";
  const at = new Date(atS * 1000);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

export function bytes(n) {
  if (!n) return "0";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** power;
  return `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} ${units[power]}`;
}

export const cores = (n) => (n >= 10 ? n.toFixed(0) : n.toFixed(n >= 1 ? 1 : 2));

/** Returns Docker's nanoseconds as a duration. */
export function duration(ns) {
  const s = ns / 1e9;
  if (s >= 60 && Number.isInteger(s / 60)) return `${s / 60} min`;
  return `${Number.isInteger(s) ? s : s.toFixed(1)} s`;
}

/** Returns an image without the digest, which nobody reads. */
export const imageName = (image) => String(image ?? "").split("@sha256:")[0];

export const shortId = (id) => String(id ?? "").slice(0, 12);
