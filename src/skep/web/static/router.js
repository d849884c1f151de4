// Which view is shown: the address's hash, #/VIEW/ID/PART?q=FILTER. It can be kept, sent, and gone back to.

/** Returns {view, id, part, q} of the address. */
export function route() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, id, section] = path.split("/").map(decode);
  return { view: view || "map", id: id ?? "", part: section ?? "", q: new URLSearchParams(search ?? "").get("q") ?? "" };
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; } // an address that somebody typed
}

export function link(view, id = "", section = "", q = "") {
  const path = [view, id, section].filter(Boolean).map(encodeURIComponent).join("/");
  return `#/${path}${q ? `?q=${encodeURIComponent(q)}` : ""}`;
}

/** Changes the filter in the address; each letter is no step to go back to. */
export function setFilter(q) {
  const { view, id, part } = route();
  history.replaceState(null, "", link(view, id, part, q));
}
