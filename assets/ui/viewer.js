// The comparison viewer: the layers of one picture under a movable divider, beside each other, in turns, or as their
// difference, with shared zoom and pan.
//
// Pixels come from the server as lossless tiles (tiles.js). At 100% (one sample of the
// result to one device pixel) level 0 is drawn without resampling: what is seen are the samples that were computed.
// All geometry is in samples of the result; a layer of another size (the LR picture) is stretched over the same area.

import { Blink } from "./blink.js";
import { Brush } from "./brush.js";
import { MAX_ZOOM, clampOffset, layOut, paneAt, panesIn, visibleBox, zoomStep, zoomToFit } from "./geometry.js";
import { Hand } from "./hand.js";
import { Loupe } from "./loupe.js";
import { Painter } from "./painter.js";
import { Sketch } from "./sketch.js";
import { Steering } from "./steering.js";
import { TileCache } from "./tiles.js";
import { Toolbar } from "./toolbar.js";

const MODES = ["split", "side", "blink", "difference", "heat", "all"];
const NARROW = 800; // CSS pixels under which the toolbar takes a second row
const SLIM = 560; // and under which pictures lie under each other and words leave the toolbar
const VIEW_REST = 200; // milliseconds after which a view counts as settled

// Events: `steer` at every move of a slider or the brush {values, masked, hasMask}; `view` when what is visible has
// settled, with `visible()`; `show` when the picture is another or the same anew, and when the mask it came with is read.
export class Viewer extends EventTarget {
  // `release` is called with what a slider or the brush asks of the server when it is let go of, `fetchSketch` while it moves.
  constructor(root, fetchTile, release = () => {}, fetchSketch = async () => null) {
    super();
    this.root = root;
    this.stage = root.querySelector(".sv-stage");
    this.canvas = this.stage.querySelector("canvas");
    this.divider = root.querySelector(".sv-divider");
    this.context = this.canvas.getContext("2d");
    this.cache = new TileCache(fetchTile, () => this.redraw());
    this.sketch = new Sketch(fetchSketch, () => this.redraw());
    this.live = null; // values that are shown by blending, while they are not yet those of the server's picture
    this.items = [];
    this.index = 0;
    this.mode = "split";
    this.left = "lr";
    this.split = 0.5;
    this.smooth = false;
    this.zoom = 1; // device pixels per sample of the result
    this.x = this.y = 0; // device pixels from a pane's corner to the picture's
    this.fitted = true;
    this.painter = new Painter(this);
    this.brush = new Brush(this);
    this.steering = new Steering(this, release);
    this.blink = new Blink(this);
    this.loupe = new Loupe(this);
    this.toolbar = new Toolbar(this);
    this.hand = new Hand(this);
    new ResizeObserver(() => this.resize()).observe(this.stage);
    this.resize();
  }

  get item() { return this.items[this.index]; }
  get comparing() { return Boolean(this.item?.layers.sr); }
  get ratio() { return window.devicePixelRatio || 1; }
  // The result's layer, with its version, which changes with every new rendering.
  get result() { return `sr@${this.item.version ?? 0}`; }
  get scales() { return this.steering.values; }
  get masked() { return this.steering.masked; }

  // `value`: {items: [{id, name, version, layers: {lr: [w, h], sr: [w, h]?, hr: [w, h]?}, labels: {lr: text, ...}, guide}],
  // index, full}
  show(value) {
    const before = this.item && { name: this.item.name, size: this.size() };
    this.items = value?.items ?? [];
    this.full = Boolean(value?.full);
    // The server points at the newest result; someone who has picked a picture stays with it.
    const kept = this.picked ? this.items.findIndex((item) => item.name === before?.name) : -1;
    this.picked = kept >= 0;
    this.index = kept >= 0 ? kept : Math.min(value?.index ?? 0, Math.max(0, this.items.length - 1));
    const size = this.item && this.size();
    this.refresh(!before || !this.item || before.size[0] !== size[0] || before.size[1] !== size[1]);
  }

  select(index) {
    this.index = (index + this.items.length) % this.items.length;
    this.picked = true;
    this.live = null;
    this.refresh(true);
  }

  // After the picture is another, or the same anew.
  refresh(another) {
    if (this.left === "hr" && !this.item?.layers.hr) this.left = "lr";
    if (!this.comparing) this.blink.pause();
    else if (this.mode === "blink" && another) this.blink.enter();
    this.brush.forget(this.items);
    this.steering.show();
    if (another) this.begin();
    else if (this.fitted) this.fit();
    this.toolbar.strip();
    this.redraw();
    this.dispatchEvent(new Event("show"));
  }

  // How a picture is first seen.
  begin() {
    this.fit();
    if (this.full && this.item) this.setZoom(1);
  }

  // The size of the picture that all geometry is in.
  size() { return this.item.layers[this.comparing ? "sr" : "lr"]; }

  panes() {
    const names = panesIn(this.mode, this.comparing, Boolean(this.item?.layers.hr));
    return layOut(names, this.canvas.width, this.canvas.height, this.stage.clientWidth < SLIM);
  }

  paneAt({ x, y }) { return paneAt(this.panes(), x, y); }

  // The size in device pixels that each pane has.
  view() { return this.panes()[0]; }

  frame() {
    const { width, height } = this.view(), { x, y, zoom } = this;
    return { x, y, zoom, width, height };
  }

  // What is visible of the result, in its samples; null where there is no picture.
  visible() { return this.item ? visibleBox(this.frame(), this.size()) : null; }

  fit() {
    this.fitted = true;
    if (!this.item) return this.redraw();
    // A picture smaller than the view is enlarged by whole factors, so that its samples stay visible squares.
    const zoom = zoomToFit(this.size(), this.view());
    this.setZoom(zoom > 1 ? Math.max(1, Math.floor(zoom)) : zoom);
    this.fitted = true;
  }

  setZoom(zoom, cx = this.view().width / 2, cy = this.view().height / 2) {
    if (!this.item) return;
    const wanted = Math.min(MAX_ZOOM, Math.max(Math.min(zoomToFit(this.size(), this.view()), 1) / 2, zoom));
    this.x = cx - ((cx - this.x) * wanted) / this.zoom;
    this.y = cy - ((cy - this.y) * wanted) / this.zoom;
    this.zoom = wanted;
    this.fitted = false;
    this.settle();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.settle();
  }

  settle() {
    const [width, height] = this.size(), view = this.view();
    this.x = Math.round(clampOffset(this.x, width, this.zoom, view.width));
    this.y = Math.round(clampOffset(this.y, height, this.zoom, view.height));
    this.redraw();
    clearTimeout(this.still);
    this.still = setTimeout(() => {
      if (this.item) this.dispatchEvent(new CustomEvent("view", { detail: this.visible() }));
    }, VIEW_REST);
  }

  setSplit(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.redraw();
  }

  setMode(mode) {
    if (this.mode === mode) return;
    this.mode = mode;
    if (mode === "blink" && this.comparing) this.blink.enter();
    else this.blink.pause();
    if (this.fitted || !this.item) this.fit();
    else this.settle();
  }

  resize() {
    for (const [name, width] of [["sv-narrow", NARROW], ["sv-slim", SLIM]])
      this.root.classList.toggle(name, this.stage.clientWidth < width);
    this.canvas.width = Math.max(1, Math.round(this.stage.clientWidth * this.ratio));
    this.canvas.height = Math.max(1, Math.round(this.stage.clientHeight * this.ratio));
    if (this.item && !this.fitted) this.settle();
    else this.fit();
  }

  // Move the sliders, as a hand does.
  set(values, released = true) { this.steering.set(values, released); }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      this.draw();
      this.toolbar.show();
      this.brush.show();
    });
  }

  draw() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.item) return this.loupe.draw();
    if (this.live && this.steering.caughtUp && this.ready(this.result)) this.live = null;
    if (!this.live) this.sketch.forget();
    const frame = this.frame(), panes = this.panes();
    for (const pane of panes) {
      if (pane.name === "both") this.both(frame, pane);
      else this.picture(context, pane.name, frame, pane);
      if (this.brush.on && this.brush.seen && !this.brush.mask.empty) this.painter.tint(context, this.brush.mask, frame, pane);
    }
    this.loupe.draw();
    const { guide } = this.item;
    if (this.comparing && this.ready(this.result)) guide?.corners.forEach((corner) => this.ready(corner)); // ahead of the first move
  }

  // Before and after in one pane.
  both(frame, pane) {
    const { context, mode } = this, at = Math.round(this.split * pane.width);
    if (mode === "blink") return this.picture(context, this.blink.after ? "after" : "before", frame, pane);
    if (mode !== "split") return this.painter.errors(context, this.left, frame, pane, mode === "heat", this.toolbar.amplified);
    this.picture(context, "before", frame, { to: at });
    this.picture(context, "after", frame, { from: at });
  }

  // Draw what a pane is named after: `after` is the result as it is steered, `before` what it is compared with.
  picture(context, name, frame, { left, top, from, to }, place) {
    if (name === "after") this.painter.after(context, frame, { left, top, from, to }, place);
    else this.painter.layer(context, name === "before" ? this.left : name, frame, { left, top, from, to });
  }

  label(name) {
    const labels = { lr: "Original", hr: "Reference", sr: "Upscaled", ...this.item.labels };
    if (name === "after" && this.sketch.image) return "Preview";
    if (name === "after" && this.sketch.busy) return "Preparing a preview…";
    return labels[{ before: this.left, after: "sr" }[name] ?? name];
  }

  ready(name, frame = this.frame()) { return this.painter.ready(name, frame); }

  act(action) {
    if (!this.item) return;
    const actions = {
      fit: () => this.fit(),
      full: () => this.setZoom(1),
      in: () => this.setZoom(zoomStep(this.zoom, true)),
      out: () => this.setZoom(zoomStep(this.zoom, false)),
      reference: () => { this.left = this.left === "hr" || !this.item.layers.hr ? "lr" : "hr"; },
      smooth: () => { this.smooth = !this.smooth; },
      loupe: () => this.loupe.toggle(),
      play: () => this.blink.toggle(),
      screen: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen()),
      reset: () => this.steering.reset(),
      regions: () => this.brush.toggle(),
      paint: () => this.brush.choose(false),
      erase: () => this.brush.choose(true),
      tint: () => { this.brush.seen = !this.brush.seen; },
      clear: () => this.brush.clear(),
      next: () => this.select(this.index + 1),
      previous: () => this.select(this.index - 1),
    };
    if (MODES.includes(action)) this.setMode(action);
    else actions[action]?.();
    this.redraw();
  }
}

// Bind a viewer to a Gradio HTML component. `server.tile` and `server.sketch` take a request and resolve to a PNG in base64.
export function mount(element, props, server, watch, trigger) {
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const fetchTile = async (request) => {
    const text = await server.tile(request);
    if (!text) throw new Error("no longer on the server");
    return bytesOf(text);
  };
  const fetchSketch = async (request) => {
    const text = await server.sketch?.(request);
    return text && bytesOf(text);
  };
  const release = (asked) => trigger("select", { value: asked });
  const viewer = new Viewer(element.querySelector(".sv"), fetchTile, release, fetchSketch);
  element.querySelector(".sv").viewer = viewer;
  watch("value", () => viewer.show(props.value));
  viewer.show(props.value);
  return viewer;
}
