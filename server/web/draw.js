// Drawings of a memory: norms, singular spectra, read gates. Plain SVG; colours are the style sheet's. Each is an image
// with a sentence for those who can't see it; the figures themselves are in the table beside them.

import { count, el, svg } from "./dom.js";

const DECADES = 4; // what is a ten-thousandth of the largest value is drawn as nothing

export function byLayer(matrices) {
  const layers = new Map();
  for (const matrix of matrices) layers.set(matrix.layer, [...(layers.get(matrix.layer) ?? []), matrix]);
  return layers;
}

// Three digits, of a large number all before the point.
export function figure(x) {
  if (x === 0) return "0";
  if (x >= 1e6 || x < 0.001) return x.toExponential(1);
  return x >= 1000 ? count(Math.round(x)) : String(Number(x.toPrecision(3)));
}

// All of a layer's matrices as one norm: the root of the sum of squares.
const together = (matrices) => Math.hypot(...matrices.map((matrix) => matrix.norm));

// A bar for each layer. `before`: the drawing's last matrices, shown as a line where a bar ended.
export function norms(layers, before) {
  const most = Math.max(...[...layers.values()].map(together), ...[...before.values()].map(together), 1e-12);
  const rows = [...layers].map(([layer, matrices], i) => {
    const norm = together(matrices);
    const y = i * 16;
    const old = before.has(layer) ? 40 + (170 * together(before.get(layer))) / most : null;
    return svg(
      "g",
      {},
      svg("text", { x: 34, y: y + 12, "text-anchor": "end" }, `${layer}`),
      svg("rect", { class: "bar", x: 40, y: y + 3, width: Math.max(1, (170 * norm) / most), height: 11, rx: 2 }),
      old === null ? null : svg("line", { class: "old", x1: old, x2: old, y1: y + 1, y2: y + 16 }),
      svg("text", { x: 216, y: y + 12 }, figure(norm)),
    );
  });
  const said = [...layers].map(([layer, matrices]) => `layer ${layer}: ${figure(together(matrices))}`).join(", ");
  return picture("norms", 272, layers.size * 16 + 2, `Norm of the memory by layer. ${said}.`, rows);
}

// A curve for each head, on a logarithmic axis; `before` as a dotted one.
export function spectrum(layer, matrices, before) {
  const most = Math.max(...[...matrices, ...before].map((matrix) => matrix.singular_values[0] ?? 0), 1e-12);
  const line = (matrix, kind) => {
    const values = matrix.singular_values.filter((value) => value > most * 10 ** -DECADES);
    if (!values.length) return null;
    const step = 112 / Math.max(1, matrix.singular_values.length - 1);
    const points = values.map((value, i) => `${(8 + i * step).toFixed(1)},${(6 - (54 * Math.log10(value / most)) / DECADES).toFixed(1)}`);
    return svg("polyline", { class: `${kind} head${matrix.head % 6}`, points: points.join(" ") });
  };
  const grid = Array.from({ length: DECADES + 1 }, (_, i) => {
    const y = 6 + (54 * i) / DECADES;
    return svg("line", { class: "grid", x1: 8, x2: 120, y1: y, y2: y });
  });
  const ranks = matrices.map((matrix) => figure(matrix.effective_rank)).join(", ");
  const lines = [...before.map((matrix) => line(matrix, "curve dotted")), ...matrices.map((matrix) => line(matrix, "curve"))];
  const image = picture("spectrum", 128, 64, `Singular values of layer ${layer}, by head. Effective rank ${ranks}.`, [
    ...grid,
    ...lines.filter((one) => one !== null),
  ]);
  return el("figure", {}, image, el("figcaption", {}, `layer ${layer} · eff. rank ${ranks}`));
}

// For each layer a column for each query head: how far it takes what it reads, 0 to 1.
export function gates(layers) {
  const rows = [];
  const said = [];
  for (const [layer, matrices] of layers) {
    const values = matrices.flatMap((matrix) => matrix.gates);
    if (!values.length) continue;
    const y = rows.length * 26;
    const width = Math.min(20, 226 / values.length);
    const bars = values.map((gate, i) => {
      const height = Math.max(0.5, 22 * gate);
      return svg("rect", { class: "bar", x: 40 + i * width, y: y + 24 - height, width: Math.max(1, width - 2), height });
    });
    const base = svg("line", { class: "grid", x1: 40, x2: 40 + width * values.length, y1: y + 24, y2: y + 24 });
    const top = svg("line", { class: "grid", x1: 40, x2: 40 + width * values.length, y1: y + 2, y2: y + 2 });
    rows.push(svg("g", {}, svg("text", { x: 34, y: y + 18, "text-anchor": "end" }, `${layer}`), base, top, ...bars));
    said.push(`layer ${layer}: ${values.map((gate) => gate.toFixed(2)).join(" ")}`);
  }
  if (!rows.length) return null;
  return picture("gates", 272, rows.length * 26 + 2, `Read gates by layer and query head. ${said.join(", ")}.`, rows);
}

// caption: of the table. columns: {heading: (row) => text}.
export function table(caption, columns, rows) {
  const head = el("tr", {}, ...Object.keys(columns).map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((row) => el("tr", {}, ...Object.values(columns).map((cell) => el("td", {}, cell(row)))));
  const all = el("table", {}, el("caption", { class: "unseen" }, caption), el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, all);
}

function picture(kind, width, height, sentence, parts) {
  return svg("svg", { class: kind, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence }, ...parts);
}
