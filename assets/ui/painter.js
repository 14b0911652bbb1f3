// Draws the layers of a picture into frames: from tiles, by blending while a slider is ahead of the server, or as the error
// between two of them.

import { Mixer, weightsOf } from "./blend.js";
import { drawDifference, drawHeat } from "./errors.js";
import { shownPart } from "./geometry.js";
import { TILE, levelFor, tilesIn } from "./tiles.js";

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

function offscreen(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
}

export class Painter {
  constructor(viewer) {
    this.viewer = viewer;
    this.checks = checkerboard(viewer.context);
    this.blends = {}; // a mixer for each place that blends, with what it has loaded
  }

  // Device pixels across and down that one sample of a layer covers.
  stretch(name, frame) {
    const [width, height] = this.viewer.item.layers[name.split("@")[0]], size = this.viewer.size();
    return [(size[0] / width) * frame.zoom, (size[1] / height) * frame.zoom];
  }

  // Whether all tiles of a layer that the frame shows are here; asks for those that are not.
  ready(name, frame) {
    const { item, cache } = this.viewer, [width, height] = item.layers[name.split("@")[0]], stretch = this.stretch(name, frame);
    const level = levelFor(Math.min(...stretch));
    const images = tilesIn(shownPart(frame, stretch), width, height, level).map(([x, y]) => cache.get(item.id, name, level, x, y));
    return images.every(Boolean);
  }

  // Draw the columns [from, to) of a frame that lies at (left, top). `exact` leaves out what has not arrived at this zoom,
  // and what shows through.
  layer(context, name, frame, { left = 0, top = 0, from = 0, to = frame.width, exact = false, smooth = this.viewer.smooth } = {}) {
    const { item, cache } = this.viewer, [width, height] = item.layers[name.split("@")[0]];
    const [sx, sy] = this.stretch(name, frame), level = levelFor(Math.min(sx, sy));
    context.save();
    context.beginPath();
    context.rect(left + from, top, to - from, frame.height);
    context.clip();
    context.translate(left + frame.x, top + frame.y);
    context.fillStyle = this.checks;
    if (!exact) context.fillRect(0, 0, width * sx, height * sy);
    context.imageSmoothingEnabled = level > 0 || sx < 1 || (name === "lr" && smooth);
    context.imageSmoothingQuality = "high";
    const coarsest = levelFor(Math.min(1, TILE / Math.max(width, height)));
    for (const each of level < coarsest && !exact ? [coarsest, level] : [level]) {
      const side = TILE * 2 ** each;
      for (const [x, y] of tilesIn(shownPart(frame, [sx, sy], from, to), width, height, each)) {
        const image = cache.get(item.id, name, each, x, y);
        if (!image) continue;
        const w = Math.min(side, width - x * side), h = Math.min(side, height - y * side);
        context.drawImage(image, x * side * sx, y * side * sy, w * sx, h * sy);
      }
    }
    context.restore();
  }

  // The result as the sliders have it. `place` names the mixer, so that two frames do not load each other's pixels.
  after(context, frame, at = {}, place = "view") {
    const { left = 0, top = 0, from = 0, to = frame.width } = at;
    const begun = performance.now(), blended = this.viewer.live && this.blended(frame, place);
    if (!blended && this.viewer.sketch.image) return this.sketched(context, frame, { left, top, from, to });
    if (!blended) return this.layer(context, this.viewer.result, frame, at);
    if (to > from) context.drawImage(blended, from, 0, to - from, frame.height, left + from, top, to - from, frame.height);
    performance.clearMeasures("srgui:blend");
    performance.measure("srgui:blend", { start: begun, end: performance.now() });
  }

  // The small picture of the values that the sliders have, stretched over the result's place.
  sketched(context, frame, { left, top, from, to }) {
    const [width, height] = this.viewer.size();
    context.save();
    context.beginPath();
    context.rect(left + from, top, to - from, frame.height);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.viewer.sketch.image, left + frame.x, top + frame.y, width * frame.zoom, height * frame.zoom);
    context.restore();
  }

  // A canvas with the blend at the live values; null while its corners are still on their way.
  blended(frame, place) {
    const { item, cache, live, steering, brush } = this.viewer, { corners, controls } = item.guide;
    if (!corners.length || !corners.every((corner) => this.ready(corner, frame))) return null;
    const kept = (this.blends[place] ??= { mixer: new Mixer() }), { masked } = steering;
    const view = [item.id, cache.arrivals, frame.x, frame.y, frame.zoom, frame.width, frame.height].join("/");
    const fresh = kept.view !== view, mask = masked && `${view}/${brush.mask.version}`;
    if (fresh) kept.mixer.load(corners.map((corner) => this.seen(corner, frame)));
    if (mask && kept.mask !== mask) kept.mixer.cover(brush.mask.stretched(frame, this.viewer.size()));
    const mixed = JSON.stringify([view, mask, live, masked]);
    const weights = (values) => weightsOf(controls.map(({ name }) => values[name]));
    if (kept.mixed !== mixed) kept.mixer.mix(weights(live), masked && weights(masked));
    Object.assign(kept, { view, mask, mixed });
    return kept.mixer.canvas;
  }

  // The pixels of one layer as it lies in the frame.
  seen(name, frame, smooth) {
    const context = offscreen(frame.width, frame.height);
    this.layer(context, name, frame, { exact: true, smooth });
    return context.getImageData(0, 0, frame.width, frame.height);
  }

  // The error of the result against the layer `before`, which is interpolated if it is smaller: the squares of its samples
  // are no error of anybody's.
  errors(context, before, frame, { left, top }, heat, gain) {
    const { item, cache } = this.viewer;
    const view = [item.id, before, cache.arrivals, frame.x, frame.y, frame.zoom, frame.width, frame.height].join("/");
    if (this.against?.view !== view) {
      this.against = { view, image: this.seen(before, frame, true), context: offscreen(frame.width, frame.height) };
      this.against.out = this.against.context.createImageData(frame.width, frame.height);
    }
    const { image, out, context: scratch } = this.against;
    scratch.clearRect(0, 0, frame.width, frame.height);
    this.after(scratch, frame, { exact: true });
    const result = scratch.getImageData(0, 0, frame.width, frame.height);
    (heat ? drawHeat : drawDifference)(image.data, result.data, out.data, gain);
    scratch.putImageData(out, 0, 0);
    context.drawImage(scratch.canvas, left, top);
  }

  // The painted region as a tint.
  tint(context, mask, frame, { left, top }) {
    if (this.tinted?.mask !== mask || this.tinted.version !== mask.version) {
      const tinted = offscreen(mask.width, mask.height);
      tinted.putImageData(mask.tint(), 0, 0);
      this.tinted = { mask, version: mask.version, canvas: tinted.canvas };
    }
    const [width, height] = this.viewer.size();
    context.save();
    context.beginPath();
    context.rect(left, top, frame.width, frame.height);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "low";
    context.drawImage(this.tinted.canvas, left + frame.x, top + frame.y, width * frame.zoom, height * frame.zoom);
    context.restore();
  }
}
