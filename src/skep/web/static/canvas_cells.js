// Tasks as cells. Each state has a form as well as a colour where a cell is large enough for one.

import { GROUPS } from "./states.js";

const [, STARTING, FAILED, WAITING, ENDED] = GROUPS.keys();
export const FAINT = GROUPS.length; // what the filter leaves out
const FORM_PX = 6; // smaller cells are plain

/** Rectangles by colour: setting a colour costs more than a rectangle. */
export class Rects {
  constructor(colours) {
    this._colours = colours;
    this._of = colours.map(() => []);
  }

  add(colour, x, y, w, h) { this._of[colour].push(x, y, w, h); }

  paint(ctx) {
    this._of.forEach((rects, colour) => {
      if (rects.length === 0) return;
      ctx.fillStyle = this._colours[colour];
      for (let at = 0; at < rects.length; at += 4) ctx.fillRect(rects[at], rects[at + 1], rects[at + 2], rects[at + 3]);
    });
  }
}

/** Returns how many cells of each colour a node has: what fits the filter by group, then what does not. */
export function cellsOf(board, node, filter) {
  const counts = new Int32Array(GROUPS.length + 1);
  const flat = board.tasks[node] ?? [];
  for (let at = 0; at + 2 < flat.length; at += 3) {
    const plain = filter.isEmpty || filter.task(node, flat[at], flat[at + 1]);
    counts[plain ? board.groups[flat[at + 1]] ?? 0 : FAINT] += flat[at + 2];
  }
  return counts;
}

/** Adds cells into a box, from below as water fills it; those of one colour in a row are one rectangle where they are
 * too small for gaps. `grid` as of `cellGrid`. */
export function addCells(rects, counts, box, grid) {
  const gap = Math.min(grid.w, grid.h) >= 4 ? 1 : 0;
  let at = 0;
  for (let colour = 0; colour < counts.length; colour++) {
    let left = counts[colour];
    while (left > 0) {
      const column = at % grid.columns;
      const rows = !gap && column === 0 ? Math.floor(left / grid.columns) : 0; // whole ones, without seams
      const y = box.y + box.h - (Math.floor(at / grid.columns) + Math.max(1, rows)) * grid.h;
      if (y < box.y - 0.5) return;
      const run = gap ? 1 : rows ? rows * grid.columns : Math.min(left, grid.columns - column);
      const x = box.x + column * grid.w;
      if (grid.w >= FORM_PX) addForm(rects, colour, x, y, grid.w - gap);
      else if (rows) rects.add(colour, x, y, box.w, rows * grid.h);
      else rects.add(colour, x, y, run * grid.w - gap, grid.h - gap);
      at += run;
      left -= run;
    }
  }
}

/** Adds one cell in its state's form: full, half, crossed, hollow, small. */
export function addForm(rects, colour, x, y, size) {
  const edge = Math.max(1, Math.round(size / 8));
  if (colour === STARTING) {
    frame(rects, colour, x, y, size, edge);
    rects.add(colour, x, y + size / 2, size, size / 2);
  } else if (colour === FAILED) {
    const third = size / 3; // a cross, of five squares
    for (const [dx, dy] of [[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]]) rects.add(colour, x + dx * third, y + dy * third, third, third);
  } else if (colour === WAITING) frame(rects, colour, x, y, size, edge);
  else if (colour === ENDED) rects.add(colour, x + size / 3, y + size / 3, size / 3, size / 3);
  else rects.add(colour, x, y, size, size);
}

function frame(rects, colour, x, y, size, edge) {
  rects.add(colour, x, y, size, edge);
  rects.add(colour, x, y + size - edge, size, edge);
  rects.add(colour, x, y, edge, size);
  rects.add(colour, x + size - edge, y, edge, size);
}
