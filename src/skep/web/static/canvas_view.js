// The map as a part of the page: its size, zoom and drag, what the pointer or the keyboard is on.

import { NODE } from "./board.js";
import { CARDS_MAX, layOut, nodeAt, placeOf } from "./canvas_layout.js";
import { cardHeight, paint, readColours } from "./canvas_paint.js";
import { el, say } from "./dom.js";
import { go } from "./go.js";
import { describeNode, tipOf } from "./node_tip.js";

const ZOOM_MAX = 24;
const DRAG_PX = 4; // less is a click

export class MapView {
  constructor(board) {
    this._board = board;
    this._canvas = el("canvas", {
      tabindex: "0", role: "application", "aria-label": "Map of the swarm's nodes and their tasks",
      "aria-describedby": "map-how",
    });
    this._tip = el("div", { class: "tip", "aria-hidden": "true" });
    this._tip.hidden = true;
    this.element = el("div", { class: "map" }, this._canvas, this._tip,
      el("p", { class: "hidden", id: "map-how" }, "Arrow keys go from node to node, Enter opens one, plus and minus zoom. The view Nodes has the same as a table."));
    this.buttons = this._zoomButtons();
    this._ctx = this._canvas.getContext("2d");
    this._focus = -1; // a node's index
    this._hover = -1;
    this._fit();
    this._listen();
    this._size = new ResizeObserver(() => this._resized());
    this._size.observe(this.element);
  }

  close() { this._size.disconnect(); }

  /** Shows what is, through a filter; `only` leaves out nodes that do not fit. */
  show(filter, only) {
    this._filter = filter;
    this._fits = new Set();
    const order = [];
    for (const n of this._board.nodesByName()) {
      if (filter.node(n)) this._fits.add(n);
      if (!only || this._fits.has(n)) order.push(n);
    }
    this._order = order;
    this._most = 1;
    for (const n of order) this._most = Math.max(this._most, this._board.tasksOn(n));
    this._cardHeight = order.length > CARDS_MAX ? 0 : cardHeight(Math.max(1, ...order.map((n) => this._board.servicesOn(n).length)));
    this._lay();
    this.paint();
    return this._fits.size;
  }

  recolour() {
    this._colours = null;
    this.paint();
  }

  paint() {
    if (!this._width || !this._order) return;
    this._colours ??= readColours(this.element);
    const ratio = devicePixelRatio || 1;
    this._ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint(this._ctx, {
      board: this._board, filter: this._filter, fits: this._fits, order: this._order, layout: this._layout, scale: this._scale,
      x: this._x, y: this._y, width: this._width, height: this._height, colours: this._colours, step: 1 / ratio, most: this._most,
      focus: this._hover >= 0 ? this._hover : document.activeElement === this._canvas ? this._focus : -1,
    });
    this._showTip();
  }

  /** Takes the keyboard to the first node that fits. */
  focusFirst() {
    this._canvas.focus();
    this._moveTo(this._order.findIndex((n) => this._fits.has(n)));
  }

  _fit() { [this._scale, this._x, this._y] = [1, 0, 0]; }

  _zoomButtons() {
    const button = (sign, label, act) => el("button", { type: "button", "aria-label": label, title: label, onclick: act }, sign);
    return el("div", { class: "zoom" },
      button("−", "Zoom out", () => this._zoom(1 / 1.6)), button("+", "Zoom in", () => this._zoom(1.6)),
      button("⤢", "Show all", () => { this._fit(); this.paint(); }));
  }

  _resized() {
    this._lay();
    this.paint();
  }

  _lay() {
    const box = this.element.getBoundingClientRect();
    if (!this._order || !box.width) return;
    const count = this._order.length;
    // What the style sheet gives the map, before this many nodes are laid out: cards may need more, or less.
    this.element.classList.remove("fitted");
    this.element.style.height = "";
    this._layout = layOut(count, this.element.clientWidth, this.element.clientHeight, this._cardHeight);
    this.buttons.hidden = this._layout.isCards; // they are as large as they have use for
    if (this._layout.isCards) {
      this._fit();
      this.element.classList.add("fitted");
      this.element.style.height = `${Math.ceil(this._layout.height) + 2}px`;
    }
    this._width = this.element.clientWidth;
    this._height = this.element.clientHeight;
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(this._width * ratio), Math.round(this._height * ratio)];
    if (this._canvas.width !== w || this._canvas.height !== h) {
      this._canvas.width = w;
      this._canvas.height = h;
      this._canvas.style.width = `${this._width}px`;
      this._canvas.style.height = `${this._height}px`;
    }
    this._bound();
  }

  _listen() {
    const canvas = this._canvas;
    canvas.addEventListener("pointermove", (event) => this._pointed(event));
    canvas.addEventListener("pointerleave", () => { this._hover = -1; this.paint(); });
    canvas.addEventListener("pointerdown", (event) => this._pressed(event));
    canvas.addEventListener("wheel", (event) => this._wheeled(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this._typed(event));
    canvas.addEventListener("focus", () => { if (this._focus < 0) this._focus = this._order?.[0] ?? -1; this.paint(); });
    canvas.addEventListener("blur", () => this.paint());
  }

  _nodeUnder(event) {
    const box = this._canvas.getBoundingClientRect();
    const n = nodeAt(this._layout, (event.clientX - box.left - this._x) / this._scale, (event.clientY - box.top - this._y) / this._scale);
    return n < 0 ? -1 : this._order[n];
  }

  _pointed(event) {
    if (this._drag) {
      this._drag.moved ||= Math.hypot(event.clientX - this._drag.fromX, event.clientY - this._drag.fromY) > DRAG_PX;
      this._x = this._drag.x + event.clientX - this._drag.fromX;
      this._y = this._drag.y + event.clientY - this._drag.fromY;
      this._bound();
      this.paint();
      return;
    }
    const node = this._nodeUnder(event);
    this._canvas.style.cursor = node >= 0 ? "pointer" : "default";
    if (node === this._hover) return;
    this._hover = node;
    this.paint();
  }

  _pressed(event) {
    if (event.button !== 0) return;
    this._drag = { fromX: event.clientX, fromY: event.clientY, x: this._x, y: this._y, moved: false };
    this._canvas.setPointerCapture(event.pointerId);
    this._canvas.addEventListener("pointerup", (up) => {
      const { moved } = this._drag;
      this._drag = null;
      const node = this._nodeUnder(up);
      if (!moved && node >= 0) go("node", this._board.nodes[node][NODE.ID]);
    }, { once: true });
  }

  _wheeled(event) {
    if (this._layout.isCards) return; // the page scrolls
    event.preventDefault();
    const box = this._canvas.getBoundingClientRect();
    this._zoom(1.0015 ** -event.deltaY, event.clientX - box.left, event.clientY - box.top);
  }

  _zoom(by, x = this._width / 2, y = this._height / 2) {
    if (this._layout.isCards) return;
    const to = Math.min(ZOOM_MAX, Math.max(1, this._scale * by));
    this._x = x - ((x - this._x) * to) / this._scale;
    this._y = y - ((y - this._y) * to) / this._scale;
    this._scale = to;
    this._bound();
    this.paint();
  }

  /** Keeps the map in its frame. */
  _bound() {
    this._canvas.style.touchAction = this._scale > 1 ? "none" : "pan-y pinch-zoom";
    this._x = Math.min(0, Math.max(this._x, this._width * (1 - this._scale)));
    this._y = Math.min(0, Math.max(this._y, this._height * (1 - this._scale)));
  }

  _typed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this._order.indexOf(this._focus);
    const { columns } = this._layout;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, j: 1, k: -1 }[event.key];
    if (step) this._moveTo(at + step);
    else if (event.key === "Home") this._moveTo(0);
    else if (event.key === "End") this._moveTo(this._order.length - 1);
    else if (event.key === "Enter" && this._focus >= 0) go("node", this._board.nodes[this._focus][NODE.ID]);
    else if (event.key === "+" || event.key === "=") this._zoomOnFocus(1.6);
    else if (event.key === "-") this._zoomOnFocus(1 / 1.6);
    else if (event.key === "0") { this._fit(); this.paint(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  _zoomOnFocus(by) {
    const at = this._screenOf(this._focus);
    this._zoom(by, at?.x, at?.y);
  }

  _moveTo(n) {
    if (n < 0 || n >= this._order.length) return;
    this._focus = this._order[n];
    this._hover = -1;
    const at = this._screenOf(this._focus);
    if (this._scale > 1) { // what is outside the frame comes in
      if (at.x < 0 || at.x > this._width) this._x += this._width / 2 - at.x;
      if (at.y < 0 || at.y > this._height) this._y += this._height / 2 - at.y;
      this._bound();
    }
    this.paint();
    say(describeNode(this._board, this._focus));
  }

  /** Returns the middle of a node on the canvas. */
  _screenOf(node) {
    const n = this._order.indexOf(node);
    if (n < 0) return undefined;
    const { x, y } = placeOf(this._layout, n);
    return { x: (x + this._layout.w / 2) * this._scale + this._x, y: (y + this._layout.h / 2) * this._scale + this._y };
  }

  _showTip() {
    const isFocused = document.activeElement === this._canvas && this._canvas.matches(":focus-visible");
    const node = this._hover >= 0 ? this._hover : isFocused ? this._focus : -1;
    const at = node >= 0 && !this._drag ? this._screenOf(node) : undefined;
    this._tip.hidden = !at || !this._board.nodes[node];
    if (this._tip.hidden) return;
    this._tip.replaceChildren(...tipOf(this._board, node));
    const half = { w: (this._layout.w * this._scale) / 2, h: (this._layout.h * this._scale) / 2 };
    const { offsetWidth: w, offsetHeight: h } = this._tip;
    let x = at.x + half.w + 8, y = at.y - half.h;
    if (x + w > this._width - 6) x = at.x - half.w - 8 - w;
    if (x < 6) { x = Math.max(6, Math.min(this._width - w - 6, at.x - w / 2)); y = at.y + half.h + 8; }
    this._tip.style.left = `${x}px`;
    this._tip.style.top = `${Math.max(6, Math.min(this._height - h - 6, y))}px`;
  }
}
