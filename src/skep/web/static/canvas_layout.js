// Where each node is on the map: one grid, of as large places as there is room for. Pure.

const GAP_WIDE = 12;
const CARDS_MAX = 24; // nodes that are shown as cards even where the page has to scroll for it
const CARD_MIN = { w: 230, h: 150 };
const CARD_MAX_H = 420;

/** Returns {columns, w, h, gap, height}: places of w × h in so many columns; `height` is what all of it takes. */
export function layOut(count, width, height) {
  if (count === 0) return { count, columns: 1, w: 0, h: 0, gap: 0, height };
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
  if (count <= CARDS_MAX) h = Math.min(CARD_MAX_H, Math.max(h, CARD_MIN.h));
  else { w = Math.min(w, h * 2.2); h = Math.min(h, w * 1.2); }
  w = Math.max(1, w);
  h = Math.max(1, h);
  return { count, columns: best.columns, w, h, gap, height: Math.max(height, rows * (h + gap) + gap) };
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

/** Returns the size of one task's cell where `most` have to go into w × h, in steps of a device's pixel; 0: too small. */
export function cellSize(most, w, h, step, max) {
  let size = Math.min(max, Math.floor(Math.sqrt((w * h) / Math.max(1, most)) / step) * step);
  while (size >= step && Math.floor(w / size) * Math.floor(h / size) < most) size -= step;
  return size >= step ? size : 0;
}
