// The scores under the picture: of the whole and of the part that is visible, while a slider moves and after it.

import { Plane } from "./plane.js";
import { Survey, keyOf, sharpnessOf } from "./survey.js";

const said = (name, value, digits, unit = "") =>
  Number.isFinite(value) ? `${name} <b>${value.toFixed(digits)}</b>${unit}` : null;

export class Readout {
  constructor(viewer, survey) {
    Object.assign(this, { viewer, survey });
    this.whole = viewer.root.querySelector(".sv-score");
    this.seen = viewer.root.querySelector(".sv-seen");
    survey.addEventListener("news", () => this.show());
  }

  show() {
    const { survey: { known }, viewer } = this;
    this.whole.replaceChildren();
    this.seen.replaceChildren();
    if (viewer.comparing && viewer.item.guide?.note) this.whole.textContent = viewer.item.guide.note;
    if (!known?.forms) return;
    const { guide } = viewer.item, values = viewer.scales, { masked, steering } = viewer;
    // Under a brush that the server has not yet heard of nothing is known.
    if (masked && !steering.sameMask) return;
    const here = keyOf(values) === keyOf(guide.values) && (!masked || keyOf(masked) === keyOf(guide.masked ?? {}));
    const scores = masked ? (here ? guide.scores : null) : known.scores(values);
    this.whole.innerHTML = this.line("Whole", known.psnr(values, masked), scores, known.consistency(values, masked), known.sharpness(values, masked));
    const { seen } = known;
    if (seen) {
      const there = here && keyOf(seen.values) === keyOf(values) ? seen.scores : null;
      this.seen.innerHTML = this.line("Visible", known.of(seen.forms, "psnr", values, masked), there,
        known.of(seen.forms, "consistency", values, masked), sharpnessOf(known.of(seen.forms, "gradient", values, masked)));
    }
    const protocol = `PSNR and SSIM on Y (BT.601), ${guide.border} px cropped; LR consistency: PSNR over RGB of the result shrunk again against the picture. While a slider moves nothing is clipped or rounded.`;
    for (const output of [this.whole, this.seen]) output.title = protocol;
  }

  line(name, psnr, scores, consistency, sharpness) {
    const { border, reference } = this.viewer.item.guide;
    const measured = reference
      ? [said("PSNR", psnr, 2, " dB"), said("SSIM", scores?.ssim_y, 3), said("LPIPS", scores?.lpips, 3)]
      : [said("sharpness", sharpness, 1)];
    const parts = [...measured, said("LR consistency", consistency, 1, " dB")].filter(Boolean).join(" · ");
    return `<span>${name}</span> ${parts}${reference && name === "Whole" ? ` <small>(Y, ${border} px cropped)</small>` : ""}`;
  }
}

// Measure what a viewer shows, where its server can.
export function measure(viewer, server) {
  if (!server.forms) return;
  const survey = new Survey(viewer, server);
  new Plane(viewer, survey);
  new Readout(viewer, survey);
}
