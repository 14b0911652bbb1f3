// What is known of a steered result at every setting: closed forms that the server sends once (srgui/survey.py), and the
// scores of rendered pictures, which it measures one after the other while nothing else is to be done.

import { psnrOf } from "./blend.js";

const AGAIN = 1500; // milliseconds after which a busy server is asked again
const COARSE = [0, 0.25, 0.5, 0.75, 1, 1.25];
const FEW = [1, 0.75, 0.5, 1.25];

// The settings that are measured without being asked for: rows of settings along the last scale.
export function gridOf(controls) {
  const last = controls.at(-1).name, first = controls[0].name;
  const row = (others) => COARSE.map((value) => ({ ...others, [last]: value }));
  return controls.length === 1 ? [row({})] : FEW.map((value) => row({ [first]: value }));
}

export function keyOf(values) {
  return Object.keys(values).sort().map((name) => `${name} ${Number(values[name]).toFixed(3)}`).join(", ");
}

// The indices of points that no other point beats in both coordinates; `better` says which way each is better, 1 or -1.
export function frontOf(points, [betterX, betterY]) {
  const beaten = (p) => points.some((q) =>
    (q.x - p.x) * betterX >= 0 && (q.y - p.y) * betterY >= 0 && (q.x !== p.x || q.y !== p.y));
  return points.map((_, i) => i).filter((i) => !beaten(points[i])).sort((i, j) => points[i].x - points[j].x);
}

// Of the front's points the best for fidelity (y), for detail (x), and the one that gives up least of both.
export function picksOf(points, better) {
  const front = frontOf(points, better).map((i) => points[i]);
  if (!front.length) return null;
  const best = (axis, sign) => front.reduce((a, b) => ((b[axis] - a[axis]) * sign > 0 ? b : a));
  const fidelity = best("y", better[1]), detail = best("x", better[0]);
  const wide = Math.abs(detail.x - fidelity.x) || 1, high = Math.abs(detail.y - fidelity.y) || 1;
  const lost = (p) => Math.hypot((p.x - detail.x) / wide, (p.y - fidelity.y) / high);
  return { fidelity, balanced: front.reduce((a, b) => (lost(b) < lost(a) ? b : a)), detail };
}

// As srgui.metrics.sharpness has it, of the gradient's mean square in dB.
export function sharpnessOf(decibels) {
  return decibels === null ? null : 255 * Math.sqrt(2 * 10 ** (-decibels / 10));
}

// One result under one mask, with what is known of it.
class Known {
  constructor(item) {
    const { guide } = item;
    Object.assign(this, { id: item.id, controls: guide.controls, masked: guide.masked, points: new Map(), forms: null, seen: null });
  }

  // A setting as the forms take it.
  order(values) { return this.controls.map(({ name }) => values[name]); }

  // A form, of the whole or of a part, as PSNR; null where the part cannot be measured.
  of(forms, name, values, masked = this.masked) {
    return forms?.[name] ? psnrOf(forms[name], this.order(values), masked && this.order({ ...values, ...masked })) : null;
  }

  psnr(values, masked) { return this.of(this.forms, "psnr", values, masked ?? this.masked); }
  consistency(values, masked) { return this.of(this.forms, "consistency", values, masked ?? this.masked); }
  sharpness(values, masked) { return sharpnessOf(this.of(this.forms, "gradient", values, masked ?? this.masked)); }

  mark(values, scores, tried) {
    const before = this.points.get(keyOf(values));
    this.points.set(keyOf(values), { values, scores: { ...before?.scores, ...scores }, tried: tried || Boolean(before?.tried) });
  }

  scores(values) { return this.points.get(keyOf(values))?.scores ?? null; }
}

// Events: `news` when more is known of the picture that is shown.
export class Survey extends EventTarget {
  // `server` has `forms` and `scores`; without them nothing is known.
  constructor(viewer, server) {
    super();
    Object.assign(this, { viewer, server, all: new Map() });
    viewer.addEventListener("show", () => this.show());
    viewer.addEventListener("view", () => this.look());
    viewer.addEventListener("steer", () => this.dispatchEvent(new Event("news")));
  }

  // What is known of the picture that is shown; null where it cannot be measured.
  get known() {
    const { item, comparing } = this.viewer;
    if (!comparing || !item.guide?.corners.length) return null;
    const { mask, masked } = item.guide;
    const key = [item.id, mask && `${mask.length}${mask.slice(-40)}`, JSON.stringify(masked)].join("/");
    if (!this.all.has(key)) this.all.set(key, new Known(item));
    return this.all.get(key);
  }

  async show() {
    const { known } = this, { item } = this.viewer;
    if (known) {
      known.mark(item.guide.values, item.guide.scores ?? {}, true);
      if (!known.forms) known.forms = await this.server.forms?.({ id: known.id });
      item.guide.gram = known.forms?.psnr ?? null;
      this.look();
      this.measure(known);
    }
    this.dispatchEvent(new Event("news"));
  }

  // Measure the part that is visible, once it is not the whole.
  async look() {
    const { known, viewer } = this;
    if (!known?.forms || viewer.live) return;
    const { left, top, width, height } = viewer.visible(), [fullWidth, fullHeight] = viewer.size();
    const box = [left, top, width, height], whole = width >= fullWidth && height >= fullHeight;
    const asked = [box, keyOf(viewer.item.guide.values), viewer.item.version].join("/");
    if (this.asked === asked && known.seen) return;
    this.asked = asked;
    known.seen = null;
    this.dispatchEvent(new Event("news"));
    if (whole) return;
    const seen = { forms: await this.server.forms({ id: known.id, box }), values: viewer.item.guide.values };
    if (this.asked !== asked || !seen.forms) return;
    known.seen = seen;
    this.dispatchEvent(new Event("news"));
    seen.scores = await this.ask({ id: known.id, box, values: seen.values, masked: known.masked }, () => this.asked === asked);
    this.dispatchEvent(new Event("news"));
  }

  // Go through the grid in the background, as long as this picture is shown.
  async measure(known) {
    if (this.measuring === known || !known.forms?.psnr) return;
    this.measuring = known;
    const wanted = () => this.measuring === known && this.known === known && known.id === this.viewer.item.id;
    for (const values of gridOf(known.controls).flat()) {
      if (known.scores(values)) continue;
      const scores = await this.ask({ id: known.id, values, masked: known.masked }, wanted);
      if (!scores) break;
      known.mark(values, scores, false);
      this.dispatchEvent(new Event("news"));
    }
    if (this.measuring === known) this.measuring = null;
  }

  // Ask for scores until the server has time; null where it has none to give, or they are no longer wanted.
  async ask(request, wanted) {
    while (wanted()) {
      const busy = this.viewer.live || document.hidden;
      const answer = busy ? { busy } : await this.server.scores(request);
      if (!answer?.busy) return answer;
      await new Promise((done) => setTimeout(done, AGAIN));
    }
    return null;
  }
}
