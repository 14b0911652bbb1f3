// The comparison viewer: two layers of one picture under a movable divider, or side by side, with shared zoom and pan.
//
// Pixels come from the server as lossless tiles (tiles.js). At 100% (one sample of the
// result to one device pixel) level 0 is drawn without resampling: what is seen are the samples that were computed.
// All geometry is in samples of the result; a layer of another size (the LR picture) is stretched over the same area.

import { Mixer, psnrOf, weightsOf } from "./blend.js";
import { TILE, TileCache, clampOffset, levelFor, tilesIn } from "./tiles.js";

const MAX_ZOOM = 32;
const REST = 150; // milliseconds without a key on a slider after which the server is asked
const ZOOM_STEPS = [0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, MAX_ZOOM];

// What shows through transparent pictures.
function checkerboard(context) {
  const square = document.createElement("canvas");
  square.width = square.height = 20;
  const brush = square.getContext("2d");
  for (const [colour, x, y] of [["#ececee", 0, 0], ["#c8c8cc", 10, 0], ["#c8c8cc", 0, 10], ["#ececee", 10, 10]]) {
    brush.fillStyle = colour;
    brush.fillRect(x, y, 10, 10);
  }
  return context.createPattern(square, "repeat");
}

export class Viewer {
  // `release` is called with the values of the sliders when one is let go of.
  constructor(root, fetchTile, release = () => {}) {
    this.root = root;
    this.release = release;
    this.sliders = root.querySelector(".sv-guide");
    this.live = null; // values that are shown by blending, while they are not yet those of the server's picture
    this.stage = root.querySelector(".sv-stage");
    this.canvas = root.querySelector("canvas");
    this.divider = root.querySelector(".sv-divider");
    this.context = this.canvas.getContext("2d");
    this.cache = new TileCache(fetchTile, () => this.redraw());
    this.items = [];
    this.index = 0;
    this.mode = "split";
    this.left = "lr";
    this.split = 0.5;
    this.smooth = false;
    this.zoom = 1; // device pixels per sample of the result
    this.x = this.y = 0; // device pixels from the view's corner to the picture's
    this.fitted = true;
    this.pointers = new Map();
    this.checks = checkerboard(this.context);
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.stage);
    this.resize();
  }

  get item() { return this.items[this.index]; }
  get after() { return this.item?.layers.sr ? "sr" : "lr"; }
  get comparing() { return this.after === "sr"; }

  // `value`: {items: [{id, name, layers: {lr: [w, h], sr: [w, h]?, hr: [w, h]?}, labels: {lr: text, ...}}], index, full}
  show(value) {
    const before = this.item && { name: this.item.name, size: this.size() };
    this.items = value?.items ?? [];
    this.full = Boolean(value?.full);
    // The server points at the newest result; someone who has picked a picture stays with it.
    const kept = this.picked ? this.items.findIndex((item) => item.name === before?.name) : -1;
    this.picked = kept >= 0;
    this.index = kept >= 0 ? kept : Math.min(value?.index ?? 0, Math.max(0, this.items.length - 1));
    if (this.left === "hr" && !this.item?.layers.hr) this.left = "lr";
    const size = this.item && this.size();
    this.guide();
    const same = before && this.item && before.size[0] === size[0] && before.size[1] === size[1];
    if (!same) this.begin();
    else if (this.fitted) this.fit();
    this.strip();
    this.redraw();
  }

  // How a picture is first seen.
  begin() {
    this.fit();
    if (this.full && this.item) this.setZoom(1);
  }

  select(index) {
    this.index = (index + this.items.length) % this.items.length;
    this.picked = true;
    this.live = null;
    this.guide();
    if (this.left === "hr" && !this.item.layers.hr) this.left = "lr";
    this.begin();
    this.strip();
  }

  size() { return this.item.layers[this.after]; }

  // The width in device pixels that one picture has: half of the stage when they lie side by side.
  view() {
    const side = this.mode === "side" && this.comparing;
    return { width: side ? Math.floor(this.canvas.width / 2) : this.canvas.width, height: this.canvas.height };
  }

  fitZoom() {
    const [width, height] = this.size(), view = this.view();
    return Math.min(view.width / width, view.height / height);
  }

  fit() {
    this.fitted = true;
    if (!this.item) return this.redraw();
    // A picture smaller than the view is enlarged by whole factors, so that its samples stay visible squares.
    const zoom = this.fitZoom();
    this.setZoom(zoom > 1 ? Math.max(1, Math.floor(zoom)) : zoom);
    this.fitted = true;
  }

  setZoom(zoom, cx = this.view().width / 2, cy = this.view().height / 2) {
    if (!this.item) return;
    const wanted = Math.min(MAX_ZOOM, Math.max(Math.min(this.fitZoom(), 1) / 2, zoom));
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
  }

  setSplit(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.redraw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.stage.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.stage.clientHeight * ratio));
    if (this.item && !this.fitted) this.settle();
    else this.fit();
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      this.draw();
      this.controls();
    });
  }

  draw() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.item) return;
    if (!this.comparing) return this.layer("lr", 0, 0, canvas.width);
    const half = this.view().width, at = Math.round(this.split * canvas.width);
    const [shift, from, to] = this.mode === "side" ? [canvas.width - half, 0, half] : [0, at, canvas.width];
    this.layer(this.left, 0, 0, this.mode === "side" ? half : at);
    if (this.live && this.caughtUp && this.ready(this.result)) this.live = null;
    if (!(this.live && this.blend(shift, from, to))) this.layer(this.result, shift, from, to);
    if (this.ready(this.result)) this.item.guide?.corners.forEach((corner) => this.ready(corner)); // ahead of the first move
  }

  // The result's layer, with its version, which changes with every new rendering.
  get result() { return `sr@${this.item.version ?? 0}`; }

  // Draw the blend at the live values into columns [from, to); false while its corners are still on their way.
  blend(shift, from, to) {
    const { corners, controls } = this.item.guide;
    if (!corners.length || !corners.every((corner) => this.ready(corner))) return false;
    const { width, height } = this.view();
    const view = [this.item.id, this.cache.arrivals, this.x, this.y, this.zoom, width, height].join("/");
    const begun = performance.now();
    this.mixer ??= new Mixer();
    if (this.mixed !== view) this.mixer.load(corners.map((corner) => this.seen(corner, width, height)));
    this.mixed = view;
    this.mixer.mix(weightsOf(controls.map(({ name }) => this.live[name])));
    this.context.drawImage(this.mixer.canvas, from, 0, to - from, height, from + shift, 0, to - from, height);
    performance.clearMeasures("srgui:blend");
    performance.measure("srgui:blend", { start: begun, end: performance.now() });
    return true;
  }

  // One layer as it lies in the view, and nothing around it.
  seen(name, width, height) {
    const shown = this.context;
    this.context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    this.layer(name, 0, 0, width, true);
    const image = this.context.getImageData(0, 0, width, height);
    this.context = shown;
    return image;
  }

  // Whether all tiles of a layer that the view shows are here; asks for those that are not.
  ready(name) {
    const [width, height] = this.item.layers[name.split("@")[0]];
    const stretch = (this.size()[0] / width) * this.zoom, stretchY = (this.size()[1] / height) * this.zoom;
    const view = this.view();
    const rect = { left: -this.x / stretch, right: (view.width - this.x) / stretch, top: -this.y / stretchY, bottom: (view.height - this.y) / stretchY };
    const level = levelFor(Math.min(stretch, stretchY));
    const images = tilesIn(rect, width, height, level).map(([x, y]) => this.cache.get(this.item.id, name, level, x, y));
    return images.every(Boolean);
  }

  // The sliders of the picture that is shown, and what they say.
  guide() {
    const guide = this.comparing ? this.item.guide : null;
    this.sliders.hidden = !guide;
    if (!guide) return;
    const names = guide.controls.map(({ name }) => name).join();
    if (this.sliders.dataset.names !== names) {
      this.sliders.dataset.names = names;
      this.sliders.querySelector(".sv-scales").replaceChildren(...guide.controls.map((control) => this.slider(control)));
    }
    if (this.guided === this.item.id) return; // the same result anew, while the hand may be further already
    this.guided = this.item.id;
    this.live = null;
    for (const input of this.sliders.querySelectorAll("input")) input.value = guide.values[input.name];
    this.said();
  }

  slider({ name, label, help, min, max }) {
    const element = document.createElement("label");
    element.title = help;
    element.innerHTML = `<span></span><input type="range" step="0.05"><output></output>`;
    element.querySelector("span").textContent = label;
    Object.assign(element.querySelector("input"), { name, min, max });
    return element;
  }

  // Whether the result is the one that the sliders ask for.
  get caughtUp() {
    return Object.entries(this.live).every(([name, value]) => Math.abs(this.item.guide.values[name] - value) < 1e-6);
  }

  get scales() {
    return Object.fromEntries([...this.sliders.querySelectorAll("input")].map((input) => [input.name, Number(input.value)]));
  }

  // Follow the sliders: at once by blending, and by the server where `released`.
  steer(released) {
    this.live = this.scales;
    this.picked = true;
    this.said();
    this.redraw();
    clearTimeout(this.rest);
    if (released) this.rest = setTimeout(() => this.release(this.scales), REST);
  }

  said() {
    for (const label of this.sliders.querySelectorAll("label"))
      label.querySelector("output").textContent = Number(label.querySelector("input").value).toFixed(2);
    const { gram, border } = this.item.guide, values = Object.values(this.scales);
    this.sliders.querySelector(".sv-score").textContent =
      gram ? `PSNR ${psnrOf(gram, values).toFixed(2)} dB (Y, ${border} px cropped)` : "";
  }

  // Draw one layer, moved right by `shift`, into the columns [from, to) of the view it belongs to.
  layer(name, shift, from, to, bare = false) {
    const { context } = this;
    const [width, height] = this.item.layers[name.split("@")[0]];
    const stretch = (this.size()[0] / width) * this.zoom, stretchY = (this.size()[1] / height) * this.zoom;
    const level = levelFor(Math.min(stretch, stretchY));
    const view = this.view();
    const rect = {
      left: (from - this.x) / stretch, right: (Math.min(to, from + view.width) - this.x) / stretch,
      top: -this.y / stretchY, bottom: (view.height - this.y) / stretchY,
    };
    context.save();
    context.beginPath();
    context.rect(from + shift, 0, to - from, view.height);
    context.clip();
    context.translate(this.x + shift, this.y);
    context.fillStyle = this.checks;
    if (!bare) context.fillRect(0, 0, width * stretch, height * stretchY);
    context.imageSmoothingEnabled = level > 0 || stretch < 1 || (name === "lr" && this.smooth);
    context.imageSmoothingQuality = "high";
    const coarsest = levelFor(Math.min(1, TILE / Math.max(width, height)));
    const levels = level < coarsest && !bare ? [coarsest, level] : [level];
    for (const each of levels) {
      const side = TILE * 2 ** each;
      for (const [x, y] of tilesIn(rect, width, height, each)) {
        const image = this.cache.get(this.item.id, name, each, x, y);
        if (!image) continue;
        const w = Math.min(side, width - x * side), h = Math.min(side, height - y * side);
        context.drawImage(image, x * side * stretch, y * side * stretchY, w * stretch, h * stretchY);
      }
    }
    context.restore();
  }

  controls() {
    const { root } = this;
    const ratio = window.devicePixelRatio || 1;
    root.dataset.state = this.item ? (this.comparing ? "compare" : "single") : "empty";
    root.dataset.mode = this.mode;
    this.divider.style.left = `${(Math.round(this.split * this.canvas.width) / ratio)}px`;
    this.divider.setAttribute("aria-valuenow", Math.round(this.split * 100));
    if (!this.item) return;
    const names = { lr: "Original", hr: "Reference", sr: "Upscaled", ...this.item.labels };
    root.querySelector(".sv-before").textContent = names[this.comparing ? this.left : "lr"];
    root.querySelector(".sv-after").textContent = names.sr;
    root.querySelector(".sv-zoom").textContent = `${Math.round(this.zoom * 100)}%`;
    const [width, height] = this.size();
    root.querySelector(".sv-size").textContent = `${width} × ${height}`;
    for (const button of root.querySelectorAll("[data-mode-button]"))
      button.setAttribute("aria-pressed", button.dataset.modeButton === this.mode);
    const reference = root.querySelector("[data-action=reference]");
    reference.hidden = !this.item.layers.hr || !this.comparing;
    reference.setAttribute("aria-pressed", this.left === "hr");
    root.querySelector("[data-action=smooth]").setAttribute("aria-pressed", this.smooth);
  }

  strip() {
    const strip = this.root.querySelector(".sv-strip");
    strip.hidden = this.items.length < 2;
    strip.replaceChildren(...this.items.map((item, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = item.name;
      button.title = item.name;
      button.classList.toggle("done", Boolean(item.layers.sr));
      button.setAttribute("aria-pressed", index === this.index);
      button.addEventListener("click", () => this.select(index));
      return button;
    }));
  }

  act(action) {
    if (!this.item) return;
    const actions = {
      fit: () => this.fit(),
      full: () => this.setZoom(1),
      in: () => this.setZoom(ZOOM_STEPS.find((step) => step > this.zoom * 1.01) ?? MAX_ZOOM),
      out: () => this.setZoom(ZOOM_STEPS.findLast((step) => step < this.zoom / 1.01) ?? this.zoom / 2),
      split: () => this.setMode("split"),
      side: () => this.setMode("side"),
      reference: () => { this.left = this.left === "hr" ? "lr" : this.item.layers.hr ? "hr" : "lr"; this.redraw(); },
      smooth: () => { this.smooth = !this.smooth; this.redraw(); },
      screen: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen()),
      reset: () => {
        for (const input of this.sliders.querySelectorAll("input")) input.value = 1;
        this.steer(true);
      },
      next: () => this.select(this.index + 1),
      previous: () => this.select(this.index - 1),
    };
    actions[action]();
  }

  setMode(mode) {
    this.mode = mode;
    if (this.fitted) this.fit();
    else this.settle();
  }

  listen() {
    this.root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      if (button) this.act(button.dataset.action);
    });
    this.sliders.addEventListener("input", () => this.steer(false));
    this.sliders.addEventListener("change", () => this.steer(true));
    this.stage.addEventListener("wheel", (event) => {
      if (!this.item) return;
      event.preventDefault();
      const at = this.at(event);
      this.setZoom(this.zoom * 2 ** (-event.deltaY / 300), at.x, at.y);
    }, { passive: false });
    this.stage.addEventListener("dblclick", (event) => {
      if (!this.item) return;
      const at = this.at(event);
      if (this.fitted) this.setZoom(1, at.x, at.y);
      else this.fit();
    });
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("pointerdown", (event) => this.press(event));
    this.stage.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"])
      this.stage.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
  }

  // A pointer's place in device pixels of the view it is over.
  at(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
    const width = this.view().width;
    return { x: x > width ? x - (this.canvas.width - width) : x, y };
  }

  press(event) {
    if (!this.item || event.target.closest("button")) return;
    this.stage.setPointerCapture(event.pointerId);
    const onDivider = event.target.closest(".sv-divider");
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, divider: Boolean(onDivider) });
    (onDivider || this.stage).focus({ preventScroll: true });
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    if (pointer.divider) {
      this.setSplit((event.clientX - box.left) / box.width);
    } else if (others.length) {
      const was = Math.hypot(pointer.x - others[0].x, pointer.y - others[0].y);
      const now = Math.hypot(event.clientX - others[0].x, event.clientY - others[0].y);
      const at = this.at({ clientX: (event.clientX + others[0].x) / 2, clientY: (event.clientY + others[0].y) / 2 });
      if (was > 0) this.setZoom((this.zoom * now) / was, at.x, at.y);
    } else {
      this.pan((event.clientX - pointer.x) * ratio, (event.clientY - pointer.y) * ratio);
    }
    Object.assign(pointer, { x: event.clientX, y: event.clientY });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.item) return;
    const step = event.shiftKey ? 0.1 : 0.02, far = 80;
    const onDivider = event.target === this.divider;
    const keys = {
      "+": () => this.act("in"), "=": () => this.act("in"), "-": () => this.act("out"),
      0: () => this.act("fit"), 1: () => this.act("full"),
      s: () => this.act(this.mode === "split" ? "side" : "split"),
      r: () => this.act("reference"), i: () => this.act("smooth"), f: () => this.act("screen"),
      "[": () => this.setSplit(this.split - 0.02), "]": () => this.setSplit(this.split + 0.02),
      n: () => this.act("next"), p: () => this.act("previous"),
      ArrowLeft: () => (onDivider ? this.setSplit(this.split - step) : this.pan(far, 0)),
      ArrowRight: () => (onDivider ? this.setSplit(this.split + step) : this.pan(-far, 0)),
      ArrowUp: () => this.pan(0, far), ArrowDown: () => this.pan(0, -far),
      Home: () => this.setSplit(0), End: () => this.setSplit(1),
    };
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

// Bind a viewer to a Gradio HTML component. `server.tile` takes a request and resolves to a PNG in base64.
export function mount(element, props, server, watch, trigger) {
  const fetchTile = async (request) => {
    const text = await server.tile(request);
    if (!text) throw new Error("no longer on the server");
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  };
  const release = (values) => trigger("select", { value: values });
  const viewer = new Viewer(element.querySelector(".sv"), fetchTile, release);
  element.querySelector(".sv").viewer = viewer;
  watch("value", () => viewer.show(props.value));
  viewer.show(props.value);
  return viewer;
}
