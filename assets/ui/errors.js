// How much two pictures differ, as a picture: amplified, or as a map of the error of their luma.

// Inferno (matplotlib, CC0), of which every step looks equally large, at 0, 1/8, ... 1.
const INFERNO = ["#000004", "#1f0c48", "#550f6d", "#88226a", "#ba3655", "#e35933", "#f98e09", "#f9cb35", "#fcffa4"];
// Y of BT.601, on which PSNR is measured too.
const LUMA = [65.481 / 255, 128.553 / 255, 24.966 / 255];

export function heatColour(share) {
  const at = Math.min(1, Math.max(0, share)) * (INFERNO.length - 1);
  const low = Math.min(INFERNO.length - 2, Math.floor(at));
  const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
  return [0, 1, 2].map((i) => {
    const from = channel(INFERNO[low], i), to = channel(INFERNO[low + 1], i);
    return Math.round(from + (to - from) * (at - low));
  });
}

export const HEAT_GRADIENT = `linear-gradient(to right, ${INFERNO.join(", ")})`;

// What the ends and the middle of the scale mean, in 8-bit values.
export function heatTicks(gain) {
  return [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round((share * 256) / gain)).map((value) => Math.min(255, value));
}

const HEAT = Array.from({ length: 256 }, (_, i) => heatColour(i / 255));

// `gain` times the difference of each channel; 256 / gain is white. Empty where either picture is.
export function drawDifference(before, after, out, gain) {
  for (let i = 0; i < out.length; i += 4) {
    out[i] = Math.abs(after[i] - before[i]) * gain;
    out[i + 1] = Math.abs(after[i + 1] - before[i + 1]) * gain;
    out[i + 2] = Math.abs(after[i + 2] - before[i + 2]) * gain;
    out[i + 3] = before[i + 3] && after[i + 3] ? 255 : 0;
  }
}

// The error of the luma; 256 / gain and more is the top of the scale.
export function drawHeat(before, after, out, gain) {
  const [r, g, b] = LUMA.map((weight) => weight * gain);
  for (let i = 0; i < out.length; i += 4) {
    const error = Math.abs(r * (after[i] - before[i]) + g * (after[i + 1] - before[i + 1]) + b * (after[i + 2] - before[i + 2]));
    const colour = HEAT[Math.min(255, Math.round(error))];
    out[i] = colour[0];
    out[i + 1] = colour[1];
    out[i + 2] = colour[2];
    out[i + 3] = before[i + 3] && after[i + 3] ? 255 : 0;
  }
}
