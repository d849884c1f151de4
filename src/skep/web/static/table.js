// A table that stays as it is where nothing changed: rows are known by a key, and made anew when what they say is another.

import { el, fill, setText } from "./dom.js";
import { count } from "./format.js";

const PAGE = 200; // rows shown at once: more are slow to lay out, and nobody reads them

/** `columns`: {label, cell(item) -> node or text, sort(item)?, kind: "number" | "text" | "wide"?}, the first one is the
 * row's head; `key(item)`; `says(item)`: a text that is another when the row is to be drawn anew. */
export class Table {
  constructor({ label, columns, key, says, empty, sort = -1, descending = false }) {
    Object.assign(this, { _columns: columns, _key: key, _says: says, _empty: empty, _sort: sort, _descending: descending });
    this._rows = new Map();
    this._items = [];
    this._page = 0;
    this._body = el("tbody");
    this._heads = columns.map((column, n) => this._head(column, n));
    this._table = el("table", null, el("caption", { class: "hidden" }, label), el("thead", null, el("tr", null, this._heads)), this._body);
    this._none = el("p", { class: "empty" }, empty);
    this._where = el("span");
    this._back = el("button", { type: "button", onclick: () => this._turn(-1) }, "‹ Before");
    this._next = el("button", { type: "button", onclick: () => this._turn(1) }, "Next ›");
    this._pager = el("div", { class: "pager" }, this._back, this._where, this._next);
    this.element = el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, this._table, this._none, this._pager);
  }

  _head(column, n) {
    const kind = column.kind === "number" ? "number" : column.kind === "wide" ? "wide" : null;
    const head = el("th", { scope: "col", class: kind });
    if (column.sort) fill(head, el("button", { type: "button", onclick: () => this._sortBy(n) }, column.label));
    else if (column.label) fill(head, column.label);
    else fill(head, el("span", { class: "hidden" }, column.name));
    return head;
  }

  _sortBy(n) {
    this._descending = this._sort === n ? !this._descending : this._columns[n].kind === "number";
    this._sort = n;
    this._page = 0;
    this.show(this._items);
  }

  _turn(by) {
    this._page += by;
    this.show(this._items);
    this.element.scrollIntoView({ block: "start" });
  }

  /** Shows these rows, and no others. */
  show(items) {
    this._items = items;
    const sorted = this._sorted(items);
    const pages = Math.max(1, Math.ceil(sorted.length / PAGE));
    this._page = Math.max(0, Math.min(this._page, pages - 1));
    const shown = sorted.slice(this._page * PAGE, (this._page + 1) * PAGE);
    this._fill(shown);
    this._none.hidden = items.length > 0;
    this._table.hidden = items.length === 0;
    this._pager.hidden = pages === 1;
    setText(this._where, `${count(this._page * PAGE + 1)} to ${count(this._page * PAGE + shown.length)} of ${count(sorted.length)}`);
    this._back.disabled = this._page === 0;
    this._next.disabled = this._page === pages - 1;
    this._heads.forEach((head, n) => {
      if (n === this._sort) head.setAttribute("aria-sort", this._descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  _sorted(items) {
    const by = this._columns[this._sort]?.sort;
    if (!by) return items;
    const sign = this._descending ? -1 : 1;
    const order = new Intl.Collator("en", { numeric: true });
    const compare = (a, b) => (typeof a === "number" ? a - b : order.compare(a, b));
    return [...items].map((item) => [by(item), item]).sort((a, b) => sign * compare(a[0], b[0])).map(([, item]) => item);
  }

  _fill(items) {
    const before = this._rows;
    this._rows = new Map();
    const focused = this._body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    const place = focused ? [...focused.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
    let at = this._body.firstChild;
    for (const item of items) {
      const key = this._key(item), says = this._says(item);
      let row = before.get(key);
      const isSame = row !== undefined && row.says === says;
      if (!isSame) {
        const made = { says, tr: this._row(item) };
        if (row) {
          if (at === row.tr) at = made.tr;
          row.tr.replaceWith(made.tr);
          if (row.tr === focused) made.tr.querySelectorAll("a, button")[place]?.focus();
        }
        row = made;
      }
      if (row.tr === at) at = at.nextSibling;
      else this._body.insertBefore(row.tr, at);
      this._rows.set(key, row);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  _row(item) {
    return el("tr", { class: item.rowClass }, this._columns.map((column, n) =>
      el(n === 0 ? "th" : "td", { scope: n === 0 ? "row" : null, class: column.kind === "wide" ? "text" : column.kind }, column.cell(item))));
  }
}
