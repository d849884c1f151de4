// Paints the map: each node as a card, a tile or a dot, whichever its size on the screen has room for.

import { MANAGER, NODE, READY } from "./board.js";
import { FAINT, Rects, addCells, addForm, cellsOf } from "./canvas_cells.js";
import { cellGrid, placeOf } from "./canvas_layout.js";
import { AVAILABILITIES, GROUPS, NODE_STATES } from "./states.js";
import { count, some } from "./format.js";

const FONT = 'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
const CARD = { w: 170, h: 108 };
const TILE = { w: 72, h: 46 };
const ROW_PX = { least: 19, most: 27 }; // of a service on a card
const HEAD_PX = 50; // of a card, above its services
const DOWN = 2;

/** Returns the height of a card that has use for all of it. */
export const cardHeight = (services) => HEAD_PX + services * ROW_PX.most + 14;

/** Returns the colours that the style sheet has now. */
export function readColours(element) {
  const style = getComputedStyle(element);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["panel", "tile", "tile-off", "line", "edge", "text", "soft", "accent", "starting", "failed", "starting-text", "failed-text"];
  const colours = Object.fromEntries(names.map((name) => [name, of(name)]));
  colours.cells = [...GROUPS.map((group) => of(group.name)), of("faint")];
  return colours;
}

/** One painting. `scene`: {board, filter, order (node indexes), layout, scale, x, y, width, height, colours, step,
 * most, focus}; `most` is the largest number of tasks on a node. */
export function paint(ctx, scene) {
  const { layout, scale } = scene;
  ctx.clearRect(0, 0, scene.width, scene.height);
  const w = layout.w * scale, h = layout.h * scale;
  const draw = w >= CARD.w && h >= CARD.h ? card : w >= TILE.w && h >= TILE.h ? tile : dot;
  const rects = new Rects(scene.colours.cells);
  const grid = draw === card ? null : draw === tile
    ? cellGrid(scene.most, w - 12, h - 28, scene.step, 18) : cellGrid(scene.most, w, h, scene.step, 12);
  const above = [];
  for (let n = 0; n < scene.order.length; n++) {
    const place = placeOf(layout, n);
    const box = { x: place.x * scale + scene.x, y: place.y * scale + scene.y, w, h };
    if (box.x > scene.width || box.y > scene.height || box.x + w < 0 || box.y + h < 0) continue;
    const node = scene.order[n];
    const row = scene.board.nodes[node];
    ground(ctx, scene, node, row, box);
    above.push(draw(ctx, scene, rects, { node, row, box, grid }));
    if (scene.focus === node) above.push(() => outline(ctx, box, scene.colours.accent, 3, 2));
  }
  rects.paint(ctx);
  for (const finish of above) finish?.();
}

function ground(ctx, scene, node, row, box) {
  const { colours } = scene;
  ctx.globalAlpha = scene.filter.isEmpty || scene.fits.has(node) ? 1 : 0.35;
  ctx.fillStyle = row[NODE.STATE] === DOWN ? colours["tile-off"] : colours.tile;
  const radius = Math.min(8, box.w / 6);
  if (box.w < 14) ctx.fillRect(box.x, box.y, box.w, box.h);
  else round(ctx, box, radius, 0), ctx.fill();
  ctx.globalAlpha = 1;
}

function round(ctx, box, radius, out) {
  ctx.beginPath();
  ctx.roundRect(box.x - out, box.y - out, box.w + 2 * out, box.h + 2 * out, radius);
}

function outline(ctx, box, colour, width, out) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  round(ctx, box, Math.min(8, box.w / 6) + out, out);
  ctx.stroke();
}

/** Returns what is wrong with a node, or asked of it, as a letter and a word; null where nothing is. */
export function markOf(row) {
  if (row[NODE.STATE] === DOWN) return ["✕", NODE_STATES[DOWN], "failed"];
  if (row[NODE.STATE] !== READY) return ["?", NODE_STATES[0], "starting"];
  const availability = AVAILABILITIES[row[NODE.AVAILABILITY]];
  return availability === "active" ? null : [availability[0].toUpperCase(), availability, "starting"];
}

function text(ctx, words, x, y, width, colour, font) {
  ctx.font = `${font} ${FONT}`;
  ctx.fillStyle = colour;
  ctx.fillText(fitted(ctx, words, width), x, y);
}

const widths = new Map();
const WIDTHS_MAX = 20_000; // texts whose fitting is remembered: measuring is what painting cards costs

function fitted(ctx, words, width) {
  const key = `${ctx.font}|${Math.floor(width)}|${words}`;
  let found = widths.get(key);
  if (found === undefined) {
    found = words;
    while (found.length > 1 && ctx.measureText(found === words ? found : `${found}…`).width > width) found = found.slice(0, found.length > 40 ? 40 : -1);
    if (found !== words) found += "…";
    if (widths.size > WIDTHS_MAX) widths.clear();
    widths.set(key, found);
  }
  return found;
}

function card(ctx, scene, rects, { node, row, box }) {
  const { board, colours } = scene;
  const left = box.x + 12, inner = box.w - 24;
  const mark = markOf(row);
  const isLeader = row[NODE.ID] === board.swarm.leader;
  const role = isLeader ? "leader" : row[NODE.ROLE] === MANAGER ? "manager" : "";
  if (role) outline(ctx, box, colours.accent, isLeader ? 2 : 1, 0);
  ctx.textBaseline = "alphabetic";
  const said = [role, mark ? `${mark[0]} ${mark[1]}` : ""].filter(Boolean).join("  ");
  ctx.font = `12px ${FONT}`;
  const saidWidth = said ? ctx.measureText(said).width + 10 : 0;
  text(ctx, row[NODE.NAME], left, box.y + 22, inner - saidWidth, colours.text, "600 14px");
  if (said) text(ctx, said, box.x + box.w - 12 - saidWidth + 10, box.y + 22, saidWidth, mark ? colours[`${mark[2]}-text`] : colours.accent, "12px");
  const services = board.servicesOn(node);
  const tasks = board.tasksOn(node);
  text(ctx, tasks ? `${some(tasks, "task")} of ${some(services.length, "service")}` : "no tasks", left, box.y + 40, inner, colours.soft, "12px");
  const pitch = Math.max(ROW_PX.least, Math.min(ROW_PX.most, Math.floor((box.h - HEAD_PX - 8) / Math.max(1, services.length))));
  const room = Math.max(0, Math.floor((box.h - HEAD_PX - 8) / pitch));
  const shown = services.length > room ? services.slice(0, Math.max(0, room - 1)) : services;
  const nameWidth = Math.min(inner * 0.46, 150);
  shown.forEach(([index, name, counts], n) => {
    const y = box.y + HEAD_PX + 2 + n * pitch;
    const fits = scene.filter.isEmpty || scene.filter.task(node, index, 0) || scene.filter.service(index, true);
    text(ctx, name, left, y + pitch / 2 + 4, nameWidth - 8, fits ? colours.text : colours.soft, "12.5px");
    const size = Math.min(16, pitch - 8);
    cells(ctx, scene, rects, { node, service: index, counts }, { x: left + nameWidth, y: y + Math.round((pitch - size) / 2), w: inner - nameWidth, size });
  });
  if (shown.length < services.length) {
    const rest = services.length - shown.length;
    text(ctx, `and ${some(rest, "more service", "more services")}`, left, box.y + HEAD_PX + 14 + shown.length * pitch, inner, colours.soft, "12px");
  }
  return null;
}

/** A service's tasks on a card: one cell each, or shares and a number where they are too many. */
function cells(ctx, scene, rects, { node, service, counts }, box) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  const pitch = box.size + 3, room = Math.floor((box.w - 34) / pitch);
  let x = box.x;
  if (total <= room) {
    const flat = scene.board.tasks[node];
    const found = new Int32Array(GROUPS.length + 1);
    for (let at = 0; at + 2 < flat.length; at += 3) {
      if (flat[at] !== service) continue;
      found[scene.filter.isEmpty || scene.filter.task(node, service, flat[at + 1]) ? scene.board.groups[flat[at + 1]] ?? 0 : FAINT] += flat[at + 2];
    }
    found.forEach((many, colour) => {
      for (let n = 0; n < many; n++, x += pitch) addForm(rects, colour, x, box.y, box.size);
    });
  } else {
    const width = box.w - 40;
    counts.forEach((many, colour) => {
      if (!many) return;
      const share = (many / total) * width;
      rects.add(colour, x, box.y, Math.max(2, share - 1), box.size);
      x += share;
    });
  }
  if (total > 1) text(ctx, count(total), Math.min(x + 4, box.x + box.w - 32), box.y + box.size / 2 + 4, 34, scene.colours.soft, "11.5px");
}

function tile(ctx, scene, rects, { node, row, box, grid }) {
  const { colours } = scene;
  const mark = markOf(row);
  if (row[NODE.ROLE] === MANAGER) outline(ctx, box, colours.accent, row[NODE.ID] === scene.board.swarm.leader ? 2.5 : 1.25, 0);
  ctx.textBaseline = "alphabetic";
  text(ctx, row[NODE.NAME], box.x + 6, box.y + 15, box.w - (mark ? 28 : 12), colours.text, "11.5px");
  if (mark) text(ctx, mark[0], box.x + box.w - 17, box.y + 15, 16, colours[`${mark[2]}-text`], "700 12px");
  tasks(scene, rects, node, { x: box.x + 6, y: box.y + 22, w: box.w - 12, h: box.h - 28 }, grid);
  return null;
}

function dot(ctx, scene, rects, { node, row, box, grid }) {
  const { colours } = scene;
  const failed = tasks(scene, rects, node, box, grid);
  const mark = markOf(row);
  const isManager = row[NODE.ROLE] === MANAGER;
  if (!mark && !isManager && !failed) return null;
  return () => {
    if (isManager) outline(ctx, box, colours.text, row[NODE.ID] === scene.board.swarm.leader ? 2.5 : 1.5, 0.5);
    if (failed) corner(ctx, box, colours.failed, colours.panel);
    if (mark && box.w >= 9) sign(ctx, box, mark[0], colours[mark[2]], colours.panel);
    else if (mark) outline(ctx, box, colours[mark[2]], 1.5, -0.5);
  };
}

function tasks(scene, rects, node, box, grid) {
  const counts = cellsOf(scene.board, node, scene.filter);
  addCells(rects, counts, box, grid);
  return counts[2] > 0;
}

/** A failed task must be seen where it is one pixel of a hundred thousand. */
function corner(ctx, box, colour, edge) {
  const size = Math.max(4, Math.min(10, box.w * 0.42));
  ctx.beginPath();
  ctx.moveTo(box.x + box.w - size, box.y);
  ctx.lineTo(box.x + box.w, box.y);
  ctx.lineTo(box.x + box.w, box.y + size);
  ctx.closePath();
  ctx.fillStyle = colour;
  ctx.fill();
  ctx.strokeStyle = edge;
  ctx.lineWidth = 1;
  ctx.stroke();
}

function sign(ctx, box, letter, colour, edge) {
  const size = Math.min(box.w, box.h) * 0.8;
  ctx.font = `700 ${size}px ${FONT}`;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.lineWidth = 3;
  ctx.strokeStyle = edge;
  ctx.fillStyle = colour;
  ctx.strokeText(letter, box.x + box.w / 2, box.y + box.h / 2 + 0.5);
  ctx.fillText(letter, box.x + box.w / 2, box.y + box.h / 2 + 0.5);
  ctx.textAlign = "left";
}
