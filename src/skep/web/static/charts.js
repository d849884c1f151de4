// The last hour in small charts (uPlot, vendored), without any database.

import { el, fill, setText } from "./dom.js";
import { count } from "./format.js";

let loading = null;

/** Loads uPlot once, after what is read first has been painted. */
function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "/static/uPlot.iife.min.js" });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = reject;
    document.head.append(script);
  });
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** One figure: a number that is now, and how it has been. `series`: [column of the history,
 * colour, is dashed], none for a number alone. */
export class Figure {
  constructor(caption, series) {
    this._series = series;
    this._caption = caption;
    this._number = el("span", { class: "number" });
    this._note = el("span", { class: "note" });
    this._chart = el("div", { class: "chart", role: "img" });
    this.element = el("figure", { class: "figure" }, el("figcaption", null, caption), this._number, this._chart, this._note);
    this._plot = null;
    this._sized = new ResizeObserver(() => this._resize());
    if (series.length) this._sized.observe(this._chart);
    else this._chart.remove();
  }

  number(main, rest, note) {
    const says = `${main}|${rest}`;
    if (says !== this._says) fill(this._number, main, rest ? el("small", null, rest) : null);
    this._says = says;
    setText(this._note, note);
    this._note.title = note;
  }

  async history(rows) {
    if (this._series.length === 0) return;
    this._rows = rows;
    const values = rows.map((row) => row[this._series[0][0]]);
    const said = values.length < 2 ? `${this._caption}: nothing recorded yet`
      : `${this._caption} in the last ${Math.round((rows.at(-1)[0] - rows[0][0]) / 60)} minutes: from ${count(Math.min(...values))} to ${count(Math.max(...values))}, now ${count(values.at(-1))}`;
    this._chart.setAttribute("aria-label", said);
    this._chart.title = said;
    if (rows.length < 2) return;
    const UPlot = await library();
    if (!this._chart.isConnected) return;
    const data = [rows.map((row) => row[0]), ...this._series.map(([column]) => rows.map((row) => row[column]))];
    if (this._plot) this._plot.setData(data);
    else this._make(UPlot, data);
  }

  _make(UPlot, data) {
    const { clientWidth: width, clientHeight: height } = this._chart;
    if (!width) return;
    this._plot = new UPlot({
      width, height, legend: { show: false }, cursor: { show: false }, select: { show: false }, padding: [4, 2, 4, 2],
      axes: [{ show: false }, { show: false }],
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.04)] } },
      series: [{}, ...this._series.map(([, name, dashed]) => ({
        stroke: colour(name), width: dashed ? 1.25 : 1.75, dash: dashed ? [4, 3] : undefined, points: { show: false },
        fill: dashed ? undefined : `${colour(name)}1f`,
      }))],
    }, data, this._chart);
  }

  _resize() {
    const { clientWidth: width, clientHeight: height } = this._chart;
    if (this._plot && width) this._plot.setSize({ width, height });
    else if (this._rows) this.history(this._rows);
  }

  recolour() {
    this._plot?.destroy();
    this._plot = null;
    if (this._rows) this.history(this._rows);
  }

  close() {
    this._sized.disconnect();
    this._plot?.destroy();
    this._plot = null;
  }
}
