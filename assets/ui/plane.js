// The plane of fidelity and perception: every setting that is known is a point, and clicking one sets the sliders.

import { frontOf, gridOf, keyOf, picksOf } from "./survey.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDEST = 720, HEIGHT = 250, MARGIN = { left: 52, right: 14, top: 12, bottom: 40 };
const PICKS = [["fidelity", "Best fidelity"], ["balanced", "Balanced"], ["detail", "Best detail"]];

// Between which values an axis goes, and where its ticks are.
export function axisOf(values) {
  const low = Math.min(...values), high = Math.max(...values), room = Math.max(high - low, 1e-6 + Math.abs(high) * 1e-3) * 0.08;
  const from = low - room, to = high + room, rough = (to - from) / 6, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough);
  const ticks = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) ticks.push(tick);
  return { from, to, ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function draw(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

const number = (value, digits, unit = "") => (value === null || value === undefined ? "–" : `${value.toFixed(digits)}${unit}`);

export class Plane {
  constructor(viewer, survey) {
    Object.assign(this, { viewer, survey });
    this.root = viewer.root.querySelector(".sv-plane");
    this.root.innerHTML = `<details open><summary>Fidelity and perception, measured</summary>
      <svg role="group" aria-label="Settings by fidelity and perceptual quality"></svg>
      <p class="sv-point" role="status"></p></details>`;
    this.svg = this.root.querySelector("svg");
    this.said = this.root.querySelector(".sv-point");
    this.buttons = document.createElement("div");
    Object.assign(this.buttons, { className: "sv-picks", hidden: true, ariaLabel: "Set both sliders" });
    this.buttons.setAttribute("role", "group");
    viewer.root.querySelector(".sv-guide .sv-group").prepend(this.buttons);
    for (const [name, label] of PICKS) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: label });
      button.dataset.pick = name;
      button.addEventListener("click", () => this.picks && viewer.set(this.picks[name].values));
      this.buttons.append(button);
    }
    this.svg.addEventListener("click", (event) => this.click(event));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("pointermove", (event) => this.say(this.nearest(event)));
    this.svg.addEventListener("pointerleave", () => this.say(null));
    survey.addEventListener("news", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.root);
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      this.show();
    });
  }

  // What the axes are: with a reference PSNR and LPIPS, without one what needs none.
  axes(known) {
    const { guide } = this.viewer.item;
    if (!guide.reference)
      return { names: ["Sharpness (levels per pixel) →", "LR consistency (dB)"], better: [1, 1], x: (p) => known.sharpness(p.values), y: (p) => known.consistency(p.values) };
    const perceived = [...known.points.values()].some(({ scores }) => typeof scores.lpips === "number");
    const x = perceived ? (p) => p.scores.lpips : (p) => known.sharpness(p.values);
    const name = perceived ? "← LPIPS, lower is better" : "Sharpness (levels per pixel) → (LPIPS is not available)";
    return { names: [name, `PSNR (dB, Y, ${guide.border} px cropped)`], better: [perceived ? -1 : 1, 1], x, y: (p) => known.psnr(p.values) };
  }

  show() {
    const { known } = this.survey;
    this.root.hidden = this.buttons.hidden = !known?.forms;
    if (this.root.hidden) return;
    const axes = this.axes(known);
    const at = (point) => ({ ...point, x: axes.x(point), y: axes.y(point) });
    const grid = gridOf(known.controls).map((row) => row.map((values) => at({ values, scores: known.scores(values) ?? {} })));
    const tried = [...known.points.values()].filter((point) => point.tried).map(at);
    const points = [...new Map([...grid.flat(), ...tried].map((point) => [keyOf(point.values), point])).values()]
      .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
    Object.assign(this, { points, picks: picksOf(points, axes.better) });
    this.mark();
    if (points.length) this.plot(grid, points, axes, known);
  }

  // Which of the three the sliders stand at.
  mark() {
    const now = keyOf(this.viewer.scales);
    for (const button of this.buttons.children) {
      button.disabled = !this.picks || this.points.length < 3;
      button.setAttribute("aria-pressed", Boolean(this.picks) && keyOf(this.picks[button.dataset.pick].values) === now);
    }
  }

  plot(grid, points, axes, known) {
    const { svg } = this, focused = document.activeElement?.dataset?.key;
    svg.replaceChildren();
    this.width = Math.min(WIDEST, Math.max(280, this.root.querySelector("details").clientWidth));
    svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const [across, up] = [axisOf(points.map((p) => p.x)), axisOf(points.map((p) => p.y))];
    const inner = [this.width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
    const place = (p) => [MARGIN.left + ((p.x - across.from) / (across.to - across.from)) * inner[0],
      MARGIN.top + (1 - (p.y - up.from) / (up.to - up.from)) * inner[1]];
    this.frame(across, up, place, axes.names);
    this.shade(grid, place);
    const front = frontOf(points, axes.better).map((i) => points[i]);
    if (front.length > 1) draw(svg, "polyline", { class: "sv-front", points: front.map((p) => place(p).join()).join(" ") });
    const now = keyOf(this.viewer.scales);
    this.placed = points.map((point) => ({ ...point, at: place(point) }));
    const ordered = this.placed.toSorted((a, b) => a.x - b.x);
    for (const point of ordered) {
      const key = keyOf(point.values), [cx, cy] = point.at, mine = known.points.get(key)?.tried;
      const dot = draw(svg, "circle", { cx, cy, r: mine ? 5 : 3.5, class: mine ? "sv-tried" : "sv-known", tabindex: -1, role: "button", "aria-label": this.text(point) });
      Object.assign(dot.dataset, { key });
      if (key === now) draw(svg, "circle", { cx, cy, r: 8.5, class: "sv-now" });
    }
    const dots = [...svg.querySelectorAll("[data-key]")];
    const first = dots.find((dot) => dot.dataset.key === focused) ?? dots.find((dot) => dot.dataset.key === now) ?? dots[0];
    first.setAttribute("tabindex", 0);
    if (focused && first.dataset.key === focused) first.focus();
    this.follow(across, up, place, axes);
  }

  frame(across, up, place, names) {
    const { svg } = this, [left, bottom] = [MARGIN.left, HEIGHT - MARGIN.bottom];
    for (const x of across.ticks) {
      const [px] = place({ x, y: up.from });
      draw(svg, "line", { class: "sv-grid", x1: px, x2: px, y1: MARGIN.top, y2: bottom });
      draw(svg, "text", { x: px, y: bottom + 14, "text-anchor": "middle" }, x.toFixed(across.digits));
    }
    for (const y of up.ticks) {
      const [, py] = place({ x: across.from, y });
      draw(svg, "line", { class: "sv-grid", x1: left, x2: this.width - MARGIN.right, y1: py, y2: py });
      draw(svg, "text", { x: left - 6, y: py + 4, "text-anchor": "end" }, y.toFixed(up.digits));
    }
    draw(svg, "text", { x: (left + this.width - MARGIN.right) / 2, y: HEIGHT - 6, "text-anchor": "middle", class: "sv-axis" }, names[0]);
    const middle = (MARGIN.top + bottom) / 2;
    draw(svg, "text", { x: 12, y: middle, "text-anchor": "middle", class: "sv-axis", transform: `rotate(-90 12 ${middle})` }, names[1]);
  }

  // The surface that the grid spans, as far as it is known.
  shade(grid, place) {
    const rows = grid.toSorted((a, b) => Object.values(a[0].values)[0] - Object.values(b[0].values)[0]);
    const known = (...corners) => corners.every((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
    rows.forEach((row, i) => {
      for (let j = 0; j + 1 < row.length; j++) {
        const next = rows[i + 1];
        if (next && known(row[j], row[j + 1], next[j], next[j + 1]))
          draw(this.svg, "polygon", { class: "sv-shade", points: [row[j], row[j + 1], next[j + 1], next[j]].map((p) => place(p).join()).join(" ") });
        if (!next && rows.length === 1 && known(row[j], row[j + 1]))
          draw(this.svg, "polyline", { class: "sv-shade", points: [row[j], row[j + 1]].map((p) => place(p).join()).join(" ") });
      }
    });
  }

  // A ring where the sliders are, also between the points, where both coordinates are known in closed form.
  follow(across, up, place, axes) {
    const values = this.viewer.scales, point = { values, scores: this.survey.known.scores(values) ?? {} };
    const spot = { x: axes.x(point), y: axes.y(point) };
    if (!Number.isFinite(spot.y) || this.placed.some(({ values: other }) => keyOf(other) === keyOf(values))) return;
    if (Number.isFinite(spot.x)) {
      const [cx, cy] = place(spot);
      draw(this.svg, "circle", { cx, cy, r: 8.5, class: "sv-now" });
    } else if (spot.y > up.from && spot.y < up.to) {
      const [, y] = place({ x: across.from, y: spot.y });
      draw(this.svg, "line", { class: "sv-level", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y });
    }
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width, y = ((event.clientY - box.top) / box.height) * HEIGHT;
    const far = (point) => Math.hypot(point.at[0] - x, point.at[1] - y);
    const found = this.placed?.reduce((a, b) => (far(b) < far(a) ? b : a));
    return found && far(found) < 40 ? found : null;
  }

  click(event) {
    const key = event.target.dataset?.key;
    const point = key ? this.placed.find((each) => keyOf(each.values) === key) : this.nearest(event);
    if (point) this.viewer.set(point.values);
  }

  key(event) {
    const dots = [...this.svg.querySelectorAll("[data-key]")], at = dots.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) {
      event.preventDefault();
      dots[(at + step + dots.length) % dots.length].focus();
      this.say(this.placed.find(({ values }) => keyOf(values) === document.activeElement.dataset.key));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.click(event);
    }
  }

  text({ values, scores }) {
    const { known } = this.survey, { reference } = this.viewer.item.guide;
    const at = known.controls.map(({ name, label }) => `${label} ${values[name]}`).join(", ");
    const said = reference
      ? [`PSNR ${number(known.psnr(values), 2, " dB")}`, `LPIPS ${number(scores.lpips, 3)}`, `SSIM ${number(scores.ssim_y, 3)}`]
      : [`LR consistency ${number(known.consistency(values), 1, " dB")}`, `sharpness ${number(known.sharpness(values), 1)}`];
    return `${at}: ${said.join(", ")}`;
  }

  say(point) {
    this.said.textContent = point ? this.text(point) : "Click a point to go there. Line: the settings that no other one beats.";
  }
}
