// The sliders of a result: the picture follows them at once by blending, and the server renders it exactly on release.

import { psnrOf } from "./blend.js";
import { maskFromUrl, maskToUrl } from "./mask.js";
import { fillTrack } from "./toolbar.js";

const KEY_REST = 150; // milliseconds without a key on a slider after which the server is asked
const STROKE_REST = 300; // and without a stroke of the brush

// What a slider of the painted region starts at: other detail, the same restoration.
export function regionalDefault(control, isLast) {
  return control.regional ?? (isLast ? control.min : Math.min(1, control.max));
}

function sameValues(one, other) {
  return Object.entries(one).every(([name, value]) => Math.abs((other?.[name] ?? NaN) - value) < 1e-6);
}

export class Steering {
  // `release` is called with {id, values, masked, mask} when a slider or the brush is let go of.
  constructor(viewer, release) {
    this.viewer = viewer;
    this.release = release;
    this.bar = viewer.root.querySelector(".sv-guide");
    this.own = this.bar.querySelector(".sv-scales");
    this.regional = this.bar.querySelector(".sv-masked");
    this.score = this.bar.querySelector(".sv-score");
    for (const sliders of [this.own, this.regional])
      for (const [kind, released] of [["input", false], ["change", true]])
        sliders.addEventListener(kind, () => (sliders === this.regional && !this.masked ? this.said() : this.steer(released)));
  }

  get guide() { return this.viewer.comparing ? this.viewer.item.guide : null; }
  get mask() { return this.viewer.brush.mask; }
  get values() { return this.read(this.own); }
  // The values of the painted region; null where nothing is painted.
  get masked() { return this.mask && !this.mask.empty ? this.read(this.regional) : null; }

  read(sliders) {
    return Object.fromEntries([...sliders.querySelectorAll("input")].map((input) => [input.name, Number(input.value)]));
  }

  write(sliders, values) {
    for (const input of sliders.querySelectorAll("input")) if (input.name in values) input.value = values[input.name];
  }

  // Take over the sliders of the picture that is shown.
  show() {
    const { guide } = this, { item } = this.viewer;
    this.bar.hidden = !guide;
    if (!guide) this.viewer.live = null;
    if (!guide) return;
    this.build(guide.controls);
    this.compareMask(item);
    if (this.guided !== item.id) { // else the same result anew, while the hand may be further already
      this.guided = item.id;
      this.viewer.live = null;
      clearTimeout(this.rest);
      this.write(this.own, guide.values);
      const regional = guide.controls.map((control, i, all) => [control.name, regionalDefault(control, i === all.length - 1)]);
      this.write(this.regional, { ...Object.fromEntries(regional), ...guide.masked });
    }
    this.said();
  }

  build(controls) {
    const names = controls.map(({ name }) => name).join();
    if (this.bar.dataset.names === names) return;
    this.bar.dataset.names = names;
    for (const sliders of [this.own, this.regional]) sliders.replaceChildren(...controls.map((control) => this.slider(control)));
  }

  slider({ name, label, help, min, max }) {
    const element = document.createElement("label");
    element.title = help;
    element.innerHTML = `<span></span><input type="range" step="0.05"><output></output>`;
    element.querySelector("span").textContent = label;
    Object.assign(element.querySelector("input"), { name, min, max });
    return element;
  }

  // Find out whether the server's picture was made with the mask that is painted.
  async compareMask(item) {
    const url = item.guide.mask ?? null;
    if (this.rendered?.id === item.id && this.rendered.url === url) return;
    const rendered = (this.rendered = { id: item.id, url, mask: null });
    if (url) rendered.mask = await maskFromUrl(url, this.viewer.size());
    if (this.rendered !== rendered) return;
    this.viewer.brush.restore(item.id, rendered.mask);
    this.said();
    this.viewer.redraw();
    if (url) this.viewer.dispatchEvent(new Event("show")); // who shows scores could not yet tell whose they are
  }

  // Whether the mask that is painted is that of the server's picture.
  get sameMask() {
    const { mask, rendered } = this, drawn = this.masked ? mask : null;
    if (rendered?.id !== this.viewer.item.id || Boolean(rendered.mask) !== Boolean(rendered.url)) return false;
    if (!drawn || !rendered.mask) return !drawn === !rendered.mask;
    if (this.compared?.rendered !== rendered || this.compared.version !== mask.version)
      this.compared = { rendered, version: mask.version, same: mask.bytes.every((byte, i) => byte === rendered.mask.bytes[i]) };
    return this.compared.same;
  }

  // Whether the result is the one that the sliders and the brush ask for.
  get caughtUp() {
    const { guide, masked } = this;
    return sameValues(this.viewer.live, guide.values) && this.sameMask && (!masked || sameValues(masked, guide.masked));
  }

  set(values, released = true) {
    this.write(this.own, values);
    this.steer(released);
  }

  reset() {
    for (const input of this.own.querySelectorAll("input")) input.value = Math.min(1, Number(input.max));
    this.steer(true);
  }

  // Follow the sliders: at once by blending, and by the server where `released`.
  steer(released, rest = KEY_REST) {
    const { viewer, values, masked } = this;
    if (!this.guide) return;
    viewer.live = values;
    viewer.picked = true;
    this.said();
    viewer.redraw();
    viewer.dispatchEvent(new CustomEvent("steer", { detail: { values, masked, hasMask: Boolean(masked) } }));
    if (this.guide.sketch && !this.caughtUp) viewer.sketch.follow(() => this.asked());
    clearTimeout(this.rest);
    if (released) this.rest = setTimeout(() => this.send(), rest);
  }

  // What the server is asked for.
  async asked() {
    const { values, masked, mask } = this, { id } = this.viewer.item;
    return { id, values, masked, mask: masked && (await maskToUrl(mask)) };
  }

  stroked() { this.steer(true, STROKE_REST); }

  async send() {
    const sending = (this.sending = {}), asked = await this.asked();
    if (this.sending === sending) this.release(asked);
  }

  said() {
    for (const label of this.bar.querySelectorAll(".sv-scales label, .sv-masked label")) {
      const input = label.querySelector("input");
      fillTrack(input);
      label.querySelector("output").textContent = Number(input.value).toFixed(2);
    }
    const psnr = this.psnr();
    this.score.textContent = psnr === null ? "" : `PSNR ${psnr.toFixed(2)} dB (Y, ${this.guide.border} px cropped)`;
  }

  psnr() {
    const { guide, masked } = this;
    if (!guide?.gram || (masked && !this.sameMask)) return null;
    const order = (values) => guide.controls.map(({ name }) => values[name]);
    return psnrOf(guide.gram, order(this.values), masked && order(masked));
  }
}
