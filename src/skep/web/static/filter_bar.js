// The search field with its choices: all of them write one text, which is in the address.

import { el, setText } from "./dom.js";
import { valueOf, withValue } from "./filter.js";
import { route, setFilter } from "./router.js";
import { AVAILABILITIES, GROUPS, NODE_STATES, ROLES } from "./states.js";

const CHOICES = {
  state: ["Any state", ["Tasks", GROUPS.filter((group) => group.name !== "waiting").map((group) => group.name)], ["Nodes", NODE_STATES]],
  tasks: ["Any state", ["", GROUPS.filter((group) => group.name !== "ended").map((group) => group.name)]],
  role: ["Any role", ["", ROLES]],
  availability: ["Any availability", ["", AVAILABILITIES]],
};

const tokenOf = (choice) => (choice === "tasks" ? "state" : choice);

/** `changed` hears each change; `entered` the Enter key; `choices` are of state, tasks (their states alone), role,
 * availability. */
export class FilterBar {
  constructor({ label, choices, changed, entered, more = [] }) {
    this._changed = changed;
    this.input = el("input", {
      type: "search", id: "search", placeholder: `${label}: a name, service:web, state:failed …`, "aria-label": label,
      autocomplete: "off", spellcheck: "false", maxlength: "200", "aria-keyshortcuts": "/",
      oninput: () => this._take(this.input.value),
      onkeydown: (event) => { if (event.key === "Enter") entered?.(); },
    });
    this._selects = choices.map((key) => [key, this._select(key)]);
    this._count = el("span", { class: "count" });
    this.element = el("div", { class: "filters", role: "search" }, this.input, this._selects.map(([, select]) => select), more, this._count);
    this.input.value = route().q;
    this._follow();
  }

  get text() { return this.input.value; }

  count(text) { setText(this._count, text); }

  _select(key) {
    const [any, ...groups] = CHOICES[key];
    const options = (values) => values.map((value) => el("option", { value }, value));
    const token = tokenOf(key);
    return el("select", { "aria-label": token, onchange: (event) => this._take(withValue(this.text, token, event.target.value), true) },
      el("option", { value: "" }, any),
      groups.map(([name, values]) => (name ? el("optgroup", { label: name }, options(values)) : options(values))));
  }

  _take(text, write = false) {
    if (write) this.input.value = text;
    setFilter(text);
    this._follow();
    this._changed();
  }

  _follow() {
    for (const [key, select] of this._selects) {
      const value = valueOf(this.text, tokenOf(key));
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
  }
}
