// What the buttons, labels and legends around the picture say.

import { HEAT_GRADIENT, heatTicks } from "./errors.js";

// Fill a slider's track up to its thumb; styles alone cannot know where that is.
export function fillTrack(input) {
  const { min, max, value } = input;
  input.style.setProperty("--at", `${(100 * (value - min)) / (max - min || 1)}%`);
}

export class Toolbar {
  constructor(viewer) {
    this.viewer = viewer;
    this.gain = viewer.root.querySelector("[name=gain]");
    fillTrack(this.gain);
    viewer.root.addEventListener("input", (event) => { if (event.target.type === "range") fillTrack(event.target); });
    this.gain.addEventListener("input", () => viewer.redraw());
    viewer.root.querySelector(".sv-scale").style.background = HEAT_GRADIENT;
    viewer.root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      if (button) viewer.act(button.dataset.action);
    });
  }

  // How much errors are amplified: 1, 2, 4, 8 or 16 times.
  get amplified() { return 2 ** Number(this.gain.value); }

  find(selector) { return this.viewer.root.querySelector(selector); }

  press(action, state) { this.find(`[data-action=${action}]`).setAttribute("aria-pressed", Boolean(state)); }

  show() {
    const { viewer } = this, { root, item, comparing, mode } = viewer;
    root.dataset.state = item ? (comparing ? "compare" : "single") : "empty";
    root.dataset.mode = mode;
    viewer.divider.style.left = `${Math.round(viewer.split * viewer.canvas.width) / viewer.ratio}px`;
    viewer.divider.setAttribute("aria-valuenow", Math.round(viewer.split * 100));
    if (!item) return;
    this.labels();
    this.find(".sv-zoom").textContent = `${Math.round(viewer.zoom * 100)}%`;
    this.find(".sv-size").textContent = viewer.size().join(" × ");
    for (const button of root.querySelectorAll("[data-mode-button]"))
      button.setAttribute("aria-pressed", button.dataset.modeButton === mode);
    this.find("[data-action=reference]").hidden = !item.layers.hr || !comparing || mode === "all";
    this.find("[data-action=smooth]").hidden = mode === "difference" || mode === "heat" || (viewer.left === "hr" && mode !== "all");
    this.press("reference", viewer.left === "hr");
    this.press("smooth", viewer.smooth);
    this.press("loupe", viewer.loupe.on);
    this.find("[data-action=regions]").hidden = !viewer.brush.mask;
    this.tools();
  }

  // A label on every pane: where it lies, and on which side.
  labels() {
    const { viewer } = this, { mode, comparing } = viewer, panes = viewer.panes();
    const error = { difference: `Difference × ${this.amplified}`, heat: "Luma error" }[mode];
    const shown = {};
    if (panes[0].name !== "both") for (const pane of panes) shown[pane.name] = [viewer.label(pane.name), pane];
    else if (error) shown.after = [`${error}: ${viewer.label("after")} against ${viewer.label("before")}`, panes[0]];
    else if (mode === "blink") shown[viewer.blink.after ? "after" : "before"] = [viewer.label(viewer.blink.after ? "after" : "before"), panes[0]];
    else Object.assign(shown, { before: [viewer.label("before"), panes[0]], after: [viewer.label("after"), panes[0], true] });
    const elements = { before: ".sv-before", after: ".sv-after", lr: ".sv-before", hr: ".sv-third" };
    for (const selector of new Set(Object.values(elements))) this.find(selector).hidden = true;
    for (const [name, [text, pane, right]] of Object.entries(shown)) {
      const label = this.find(elements[name]), { ratio } = viewer;
      label.hidden = false;
      label.textContent = text;
      label.style.top = `${pane.top / ratio + 10}px`;
      label.style.left = right ? "auto" : `${pane.left / ratio + 10}px`;
      label.style.right = right ? "10px" : "auto";
      label.style.maxWidth = `${(pane.width / ratio) * (comparing && mode === "split" ? 0.5 : 1) - 20}px`;
    }
  }

  // What belongs to one mode only: the legend and the gain of errors, and the halt of the blinking.
  tools() {
    const { mode, comparing, blink } = this.viewer, errors = comparing && (mode === "difference" || mode === "heat");
    this.find(".sv-errors").hidden = !errors;
    this.find(".sv-legend").hidden = mode !== "heat";
    this.find(".sv-blink").hidden = !comparing || mode !== "blink";
    this.find("[data-action=play]").textContent = blink.playing ? "Pause" : "Play";
    if (!errors) return;
    const ticks = heatTicks(this.amplified), elements = [...this.viewer.root.querySelectorAll(".sv-ticks span")];
    elements.forEach((element, i) => { element.textContent = `${ticks[i]}${i === ticks.length - 1 && ticks[i] < 255 ? "+" : ""}`; });
    this.find(".sv-gain").textContent = `× ${this.amplified}`;
    this.gain.setAttribute("aria-valuetext", `${this.amplified} times`);
  }

  // The pictures to choose from, where there are several.
  strip() {
    const { viewer } = this, strip = this.find(".sv-strip");
    strip.hidden = viewer.items.length < 2;
    strip.replaceChildren(...viewer.items.map((item, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = item.name;
      button.title = item.name;
      button.classList.toggle("done", Boolean(item.layers.sr));
      button.setAttribute("aria-pressed", index === viewer.index);
      button.addEventListener("click", () => viewer.select(index));
      return button;
    }));
  }
}
