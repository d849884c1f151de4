// To another view, by its address.

import { link } from "./router.js";

export function go(view, id = "", section = "", q = "") {
  location.hash = link(view, id, section, q);
}
