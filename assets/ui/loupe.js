// A magnifier: one spot of the pictures that are compared, enlarged, next to each other.

import { frameAround } from "./geometry.js";

const LOUPE_POWER = 4;
const LOUPE_MOST = 96; // device pixels per sample
const LOUPE_SIDE = 150; // CSS pixels of each picture in it
const LOUPE_GAP = 26; // between the spot and the loupe

export class Loupe {
  constructor(viewer) {
    this.viewer = viewer;
    this.element = viewer.root.querySelector(".sv-loupe");
    this.canvas = this.element.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.on = false;
    this.at = null; // the pointer's place on the canvas; null for the middle of the view
  }

  toggle() {
    this.on = !this.on && Boolean(this.viewer.item);
    this.viewer.redraw();
  }

  follow(at) {
    this.at = at;
    if (!this.on || this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      this.draw();
    });
  }

  names() {
    const panes = this.viewer.panes().map(({ name }) => name);
    return panes[0] === "both" ? ["before", "after"] : panes;
  }

  // The spot in samples of the result.
  spot() {
    const { viewer } = this, frame = viewer.frame(), panes = viewer.panes();
    const pane = this.at ? viewer.paneAt(this.at) : panes[0];
    const at = this.at ?? { x: pane.left + pane.width / 2, y: pane.top + pane.height / 2 };
    const x = at.x - pane.left, y = at.y - pane.top;
    return { x, y, pane, sample: [(x - frame.x) / frame.zoom, (y - frame.y) / frame.zoom] };
  }

  draw() {
    const { viewer, element, canvas } = this;
    element.hidden = !this.on || !viewer.item;
    if (element.hidden) return this.mark([]);
    const { ratio, stage } = viewer, names = this.names();
    const side = Math.min(LOUPE_SIDE, Math.floor((stage.clientWidth - 24) / names.length)), pixels = Math.round(side * ratio);
    if (canvas.width !== pixels * names.length) canvas.width = pixels * names.length;
    if (canvas.height !== pixels) canvas.height = pixels;
    canvas.style.width = `${side * names.length}px`;
    canvas.style.height = `${side}px`;
    const spot = this.spot(), zoom = Math.min(LOUPE_MOST, viewer.zoom * LOUPE_POWER);
    const frame = frameAround(...spot.sample, zoom, pixels, pixels);
    this.context.clearRect(0, 0, canvas.width, canvas.height);
    names.forEach((name, i) => viewer.picture(this.context, name, frame, { left: i * pixels }, "loupe"));
    this.place(spot, side, names);
    this.mark(viewer.panes(), spot, (pixels * viewer.zoom) / zoom / ratio);
  }

  // Put the loupe above the spot, or below where there is no room, and its labels on it.
  place(spot, side, names) {
    const { stage, ratio } = this.viewer, width = side * names.length;
    const x = (spot.pane.left + spot.x) / ratio, y = (spot.pane.top + spot.y) / ratio;
    const left = Math.min(stage.clientWidth - width - 8, Math.max(8, x - width / 2));
    const above = y - LOUPE_GAP - side, top = above >= 8 ? above : Math.min(stage.clientHeight - side - 8, y + LOUPE_GAP);
    Object.assign(this.element.style, { left: `${left}px`, top: `${top}px` });
    this.element.querySelector("div").replaceChildren(...names.map((name) => {
      const label = document.createElement("span");
      label.textContent = this.viewer.label(name);
      return label;
    }));
    for (const seam of this.element.querySelectorAll("b")) seam.remove();
    for (let i = 1; i < names.length; i++) this.element.appendChild(document.createElement("b")).style.left = `${i * side}px`;
  }

  // Outline what is magnified, in every pane.
  mark(panes, spot, side) {
    const { stage, ratio } = this.viewer, marks = [...stage.querySelectorAll(".sv-spot")];
    for (const mark of marks.slice(panes.length)) mark.remove();
    panes.forEach((pane, i) => {
      const mark = marks[i] ?? stage.appendChild(Object.assign(document.createElement("i"), { className: "sv-spot" }));
      const x = (pane.left + spot.x) / ratio, y = (pane.top + spot.y) / ratio;
      Object.assign(mark.style, { left: `${x - side / 2}px`, top: `${y - side / 2}px`, width: `${side}px`, height: `${side}px` });
    });
  }
}
