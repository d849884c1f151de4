// Where each node is on the map: one grid, of as large places as there is room for. Pure.

const GAP_WIDE = 12;
export const CARDS_MAX = 24; // nodes that are shown as cards even where the page has to scroll for it
const CARD_MIN = { w: 230, h: 150 };
const CARD_ALONE_H = 300; // of cards below each other: the page scrolls anyway
const SQUARE_PX = 4;

/** Returns {columns, w, h, gap, height, isCards}: places of w × h in so many columns; `height` is what all of it takes.
 * `cardHeight`: what the fullest node's card has use for. */
export function layOut(count, width, height, cardHeight) {
  if (count === 0) return { count, columns: 1, w: 0, h: 0, gap: 0, height, isCards: false };
  const gap = count <= CARDS_MAX ? GAP_WIDE : count <= 200 ? 8 : count <= 700 ? 5 : 2;
  const aspect = count <= 200 ? 1.5 : 1;
  const most = count <= CARDS_MAX ? Math.max(1, Math.floor(width / CARD_MIN.w)) : count;
  let best = null;
  for (let columns = 1; columns <= Math.min(count, most); columns++) {
    const w = (width - gap) / columns - gap;
    const h = (height - gap) / Math.ceil(count / columns) - gap;
    const size = Math.min(w / aspect, h);
    if (!best || size > best.size) best = { columns, w, h, size };
  }
  const rows = Math.ceil(count / best.columns);
  let { w, h } = best;
  const isCards = count <= CARDS_MAX;
  const least = best.columns === 1 ? Math.min(cardHeight, CARD_ALONE_H) : CARD_MIN.h;
  if (isCards) h = Math.max(Math.min(h, cardHeight), least);
  else { w = Math.min(w, h * 2.2); h = Math.min(h, w * 1.2); }
  w = Math.max(1, w);
  h = Math.max(1, h);
  return { count, columns: best.columns, w, h, gap, height: rows * (h + gap) + gap, isCards };
}

/** Returns the place of the n-th node, before zoom. */
export function placeOf(layout, n) {
  return {
    x: layout.gap + (n % layout.columns) * (layout.w + layout.gap),
    y: layout.gap + Math.floor(n / layout.columns) * (layout.h + layout.gap),
  };
}

/** Returns which node is at a point, before zoom; -1 for none. */
export function nodeAt(layout, x, y) {
  const column = Math.floor((x - layout.gap / 2) / (layout.w + layout.gap));
  const row = Math.floor((y - layout.gap / 2) / (layout.h + layout.gap));
  const n = row * layout.columns + column;
  return column < 0 || column >= layout.columns || row < 0 || n >= layout.count ? -1 : n;
}

/** Returns {columns, w, h} of cells with which `most` of them fill a box: square ones of at most `max`, in whole steps
 * of a device's pixel, where they are large enough; else of any form, so that the box is full when the node is. */
export function cellGrid(most, w, h, step, max) {
  let size = Math.min(max, Math.floor(Math.sqrt((w * h) / Math.max(1, most)) / step) * step);
  while (size >= SQUARE_PX && Math.floor(w / size) * Math.floor(h / size) < most) size -= step;
  if (size >= SQUARE_PX) return { columns: Math.floor(w / size), w: size, h: size };
  const columns = Math.max(1, Math.ceil(Math.sqrt((most * w) / h)));
  return { columns, w: w / columns, h: h / Math.ceil(most / columns) };
}
