// The brush that paints the region in which other values hold.

import { Mask } from "./mask.js";
import { fillTrack } from "./toolbar.js";

const BRUSH_SIZES = { least: 6, most: 320, start: 64 }; // its diameter in CSS pixels
const BRUSH_STEP = 16; // CSS pixels that an arrow key moves it

export class Brush {
  constructor(viewer) {
    this.viewer = viewer;
    this.panel = viewer.root.querySelector(".sv-region");
    this.ring = viewer.root.querySelector(".sv-ring");
    this.slider = this.panel.querySelector("[name=brush]");
    Object.assign(this.slider, { min: BRUSH_SIZES.least, max: BRUSH_SIZES.most, value: BRUSH_SIZES.start });
    fillTrack(this.slider);
    Object.assign(this, { on: false, erase: false, seen: true, size: BRUSH_SIZES.start, masks: new Map() });
    this.slider.addEventListener("input", () => this.resize(Number(this.slider.value)));
    viewer.stage.addEventListener("pointerleave", () => { if (!this.byKey) this.ring.hidden = true; });
  }

  // The mask of the picture that is shown; null where it cannot be steered.
  get mask() {
    const { item, comparing } = this.viewer;
    if (!comparing || !item.guide) return null;
    if (!this.masks.has(item.id)) this.masks.set(item.id, Mask.for(this.viewer.size()));
    return this.masks.get(item.id);
  }

  // Keep the masks of these pictures only.
  forget(items) {
    for (const id of this.masks.keys()) if (!items.some((item) => item.id === id)) this.masks.delete(id);
  }

  // Take the mask that came with a picture, unless the hand has painted on that already.
  restore(id, mask) {
    if (!mask || (this.masks.get(id)?.version ?? 0) > 0) return false;
    this.masks.set(id, new Mask(mask.width, mask.height, mask.bytes.slice()));
    return true;
  }

  show() {
    const available = Boolean(this.mask), { root } = this.viewer;
    if (!available) this.on = false;
    this.panel.hidden = !this.on;
    root.classList.toggle("sv-brushing", this.on);
    if (!this.on) this.ring.hidden = true;
    const pressed = { regions: this.on, paint: !this.erase, erase: this.erase, tint: this.seen };
    for (const [action, state] of Object.entries(pressed))
      root.querySelector(`[data-action=${action}]`).setAttribute("aria-pressed", state);
    root.querySelector("[data-action=clear]").disabled = !available || this.mask.empty;
    root.querySelector(".sv-region-hint").hidden = !available || !this.mask.empty;
    root.querySelector("[data-action=regions]").classList.toggle("sv-marked", available && !this.mask.empty);
  }

  toggle() {
    this.on = !this.on && Boolean(this.mask);
    this.viewer.redraw();
  }

  resize(size) {
    this.size = Math.min(BRUSH_SIZES.most, Math.max(BRUSH_SIZES.least, size));
    this.slider.value = this.size;
    fillTrack(this.slider);
    this.slider.setAttribute("aria-valuetext", `${Math.round(this.size)} pixels`);
    this.follow(this.at);
  }

  clear() {
    if (!this.mask || this.mask.empty) return;
    this.mask.restore(new Uint8Array(this.mask.bytes.length));
    this.viewer.steering.stroked();
  }

  // A place on the canvas (device pixels) in the mask, as seen through the pane it is in.
  onMask(at) {
    const { mask, viewer } = this, frame = viewer.frame(), pane = viewer.paneAt(at), [width, height] = viewer.size();
    return {
      x: ((at.x - pane.left - frame.x) / frame.zoom) * (mask.width / width),
      y: ((at.y - pane.top - frame.y) / frame.zoom) * (mask.height / height),
    };
  }

  radius() {
    const { mask, viewer } = this;
    return Math.max(0.75, ((this.size / 2) * viewer.ratio * (mask.width / viewer.size()[0])) / viewer.frame().zoom);
  }

  press(at) {
    this.before = this.mask.bytes.slice(); // for a second finger, which turns the stroke into a pinch
    this.last = this.onMask(at);
    this.drag(at);
  }

  drag(at) {
    const to = this.onMask(at);
    this.mask.stroke(this.last, to, this.radius(), this.erase);
    this.last = to;
    this.viewer.steering.steer(false);
  }

  lift() {
    this.before = this.last = null;
    this.viewer.steering.stroked();
  }

  cancel() {
    if (!this.before) return;
    this.mask.restore(this.before);
    this.before = this.last = null;
    this.viewer.steering.stroked();
  }

  // Move the ring that shows what would be painted to a place on the canvas.
  follow(at, byKey = this.byKey) {
    this.at = at;
    this.byKey = byKey;
    this.ring.hidden = !this.on || !at;
    if (this.ring.hidden) return;
    const { ratio } = this.viewer;
    Object.assign(this.ring.style, {
      width: `${this.size}px`, height: `${this.size}px`, left: `${at.x / ratio - this.size / 2}px`, top: `${at.y / ratio - this.size / 2}px`,
    });
  }

  // Keys while the brush is on; whether this was one.
  key(event, painting) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const keys = {
      "[": () => this.resize(this.size / 1.2), "]": () => this.resize(this.size * 1.2),
      Enter: () => this.dab(), e: () => this.choose(!this.erase),
      " ": () => { if (this.byKey && !event.repeat) this.dab(); },
      Escape: () => this.toggle(),
    };
    if (arrows[event.key]) this.step(arrows[event.key], event.shiftKey, painting);
    else if (keys[event.key]) keys[event.key]();
    else return false;
    return true;
  }

  choose(erase) {
    this.erase = erase;
    this.viewer.redraw();
  }

  get middle() {
    const { left, top, width, height } = this.viewer.panes().at(-1);
    return { x: left + width / 2, y: top + height / 2 };
  }

  dab() {
    this.follow(this.at ?? this.middle, true);
    this.press(this.at);
    this.lift();
  }

  // Move by an arrow key; the picture comes along at the edge of the stage, and the brush paints while Space is held.
  step([dx, dy], far, painting) {
    const { canvas, ratio } = this.viewer, step = BRUSH_STEP * ratio * (far ? 4 : 1), from = this.at ?? this.middle;
    const wanted = { x: from.x + dx * step, y: from.y + dy * step };
    const at = { x: Math.min(canvas.width - 1, Math.max(0, wanted.x)), y: Math.min(canvas.height - 1, Math.max(0, wanted.y)) };
    if (at.x !== wanted.x || at.y !== wanted.y) this.viewer.pan(at.x - wanted.x, at.y - wanted.y);
    if (painting) this.press(from);
    this.follow(at, true);
    if (painting) { this.drag(at); this.lift(); }
  }
}
