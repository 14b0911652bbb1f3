// Where things lie. A *frame* says how a picture lies in a pane: {x, y, zoom, width, height}, its corner, device pixels per
// sample of the result, and the size of the pane in device pixels. Panes that are shown at once share one frame.

export const MAX_ZOOM = 32;
const ZOOM_STEPS = [0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, MAX_ZOOM];
const PANE_GAP = 2;

// The pictures of a mode in the order of their panes; `before` is what the result is compared with.
export function panesIn(mode, comparing, hasReference) {
  if (!comparing) return ["lr"];
  if (mode === "side") return ["before", "after"];
  if (mode === "all") return hasReference ? ["lr", "after", "hr"] : ["lr", "after"];
  return ["both"];
}

// Equal panes beside each other, or under each other where `stacked`.
export function layOut(names, width, height, stacked) {
  const gaps = PANE_GAP * (names.length - 1);
  const w = Math.max(1, stacked ? width : Math.floor((width - gaps) / names.length));
  const h = Math.max(1, stacked ? Math.floor((height - gaps) / names.length) : height);
  return names.map((name, i) => ({
    name, left: stacked ? 0 : i * (w + PANE_GAP), top: stacked ? i * (h + PANE_GAP) : 0, width: w, height: h,
  }));
}

// The pane that the point is in, or the nearest before it.
export function paneAt(panes, x, y) {
  return panes.findLast((pane) => x >= pane.left && y >= pane.top) ?? panes[0];
}

export function zoomToFit([width, height], view) {
  return Math.min(view.width / width, view.height / height);
}

// The next larger or smaller of the usual zooms.
export function zoomStep(zoom, larger) {
  if (larger) return ZOOM_STEPS.find((step) => step > zoom * 1.01) ?? MAX_ZOOM;
  return ZOOM_STEPS.findLast((step) => step < zoom / 1.01) ?? zoom / 2;
}

// Keep a picture of `length` samples at `zoom` on screen: centred when it is smaller than the view, else without a gap.
export function clampOffset(offset, length, zoom, view) {
  const shown = length * zoom;
  return shown <= view ? Math.round((view - shown) / 2) : Math.min(0, Math.max(view - shown, offset));
}

// What part of a layer a frame shows, in the layer's samples, when one of them is stretched over [sx, sy] device pixels.
export function shownPart(frame, [sx, sy], from = 0, to = frame.width) {
  return { left: (from - frame.x) / sx, right: (to - frame.x) / sx, top: -frame.y / sy, bottom: (frame.height - frame.y) / sy };
}

// The whole samples of a picture that a frame shows, in part or wholly.
export function visibleBox(frame, [width, height]) {
  const rect = shownPart(frame, [frame.zoom, frame.zoom]);
  const between = (value, most) => Math.min(most, Math.max(0, value));
  const left = between(Math.floor(rect.left), width - 1), top = between(Math.floor(rect.top), height - 1);
  return {
    left, top,
    width: Math.max(1, between(Math.ceil(rect.right), width) - left),
    height: Math.max(1, between(Math.ceil(rect.bottom), height) - top),
  };
}

// A frame of width x height around the sample coordinates (px, py).
export function frameAround(px, py, zoom, width, height) {
  return { x: Math.round(width / 2 - px * zoom), y: Math.round(height / 2 - py * zoom), zoom, width, height };
}
