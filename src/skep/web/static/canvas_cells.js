// Tasks as cells. Each state has a form as well as a colour where a cell is large enough for one.

import { GROUPS } from "./states.js";

const [RUNNING, STARTING, FAILED, WAITING, ENDED] = GROUPS.keys();
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

/** Adds cells row by row into a box; cells of one colour in a row are one rectangle where no gap is between them. */
export function addCells(rects, counts, box, size) {
  const columns = Math.floor(box.w / size);
  const gap = size >= 4 ? 1 : 0;
  let at = 0;
  for (let colour = 0; colour < counts.length; colour++) {
    let left = counts[colour];
    while (left > 0) {
      const column = at % columns;
      const y = box.y + Math.floor(at / columns) * size;
      if (y + size > box.y + box.h + 0.5) return;
      const run = gap ? 1 : Math.min(left, columns - column);
      const x = box.x + column * size;
      if (size >= FORM_PX) addForm(rects, colour, x, y, size - gap);
      else rects.add(colour, x, y, run * size - gap, size - gap);
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

/** Adds shares of a box, from below, where there are more tasks than pixels. */
export function addLevels(rects, counts, box, most) {
  let y = box.y + box.h;
  for (let colour = 0; colour < counts.length; colour++) {
    const h = (counts[colour] / most) * box.h;
    if (h > 0) rects.add(colour, box.x, (y -= h), box.w, h);
  }
}

export { RUNNING };
