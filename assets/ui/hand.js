// Wheel, mouse, fingers and keys on the stage.

const PAN_STEP = 80; // device pixels
const TAP_SLACK = 6; // CSS pixels that a tap may wander
const LOUPE_HOLD = 350; // milliseconds after which letting go of the loupe's key puts it away

export class Hand {
  constructor(viewer) {
    this.viewer = viewer;
    this.pointers = new Map();
    const { stage, root } = viewer;
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.twice(event));
    stage.addEventListener("mousedown", (event) => { if (event.button === 1) event.preventDefault(); }); // no scrolling
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => this.lift(event));
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("keyup", (event) => this.keyUp(event));
    root.addEventListener("focusout", () => { this.space = false; });
  }

  // A pointer's place in device pixels of the canvas.
  at(event) {
    const { canvas } = this.viewer, box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  // A place on the canvas within the pane it is over.
  inPane(at) {
    const pane = this.viewer.paneAt(at);
    return [at.x - pane.left, at.y - pane.top];
  }

  wheel(event) {
    if (!this.viewer.item || event.target.closest(".sv-tools")) return;
    event.preventDefault();
    this.viewer.setZoom(this.viewer.zoom * 2 ** (-event.deltaY / 300), ...this.inPane(this.at(event)));
  }

  twice(event) {
    const { viewer } = this;
    if (!viewer.item || viewer.brush.on || event.target.closest(".sv-tools")) return;
    if (viewer.fitted) viewer.setZoom(1, ...this.inPane(this.at(event)));
    else viewer.fit();
  }

  // What a pointer that has just come down is going to do.
  purpose(event) {
    const { viewer } = this;
    if (event.target.closest(".sv-divider")) return "divide";
    if (this.pointers.size) return "pinch";
    if (viewer.brush.on && event.button === 0 && !this.space) return "paint";
    if (viewer.loupe.on && event.pointerType !== "mouse") return "look";
    return "pan";
  }

  press(event) {
    const { viewer } = this;
    if (!viewer.item || event.target.closest("button, input, label") || event.button > 1) return;
    viewer.stage.setPointerCapture(event.pointerId);
    (event.target.closest(".sv-divider") || viewer.stage).focus({ preventScroll: true });
    const purpose = this.purpose(event), at = this.at(event);
    if (purpose === "pinch") for (const other of this.pointers.values()) this.join(other);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, purpose, still: true });
    if (purpose === "paint") viewer.brush.press(at);
    this.hover(event, at);
  }

  // A finger that a second one joins pinches, whatever it did before.
  join(pointer) {
    if (pointer.purpose === "divide") return;
    if (pointer.purpose === "paint") this.viewer.brush.cancel();
    Object.assign(pointer, { purpose: "pinch", still: false });
  }

  hover(event, at) {
    this.viewer.loupe.follow(at);
    this.viewer.brush.follow(at, false);
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId), at = this.at(event), { viewer } = this;
    if (!pointer) {
      if (viewer.item && event.pointerType !== "touch") this.hover(event, at);
      return;
    }
    const dx = event.clientX - pointer.x, dy = event.clientY - pointer.y;
    if (pointer.still && Math.hypot(dx, dy) < TAP_SLACK && viewer.mode === "blink" && pointer.purpose === "pan") return;
    pointer.still = false;
    this.hover(event, at);
    if (pointer.purpose === "divide") viewer.setSplit(at.x / viewer.canvas.width);
    else if (pointer.purpose === "paint") viewer.brush.drag(at);
    else if (pointer.purpose === "pinch") this.pinch(event, pointer);
    if (pointer.purpose === "pan") this.drag(pointer, dx, dy);
    else Object.assign(pointer, { x: event.clientX, y: event.clientY });
  }

  // Pan by whole pixels; what is left of a move counts towards the next.
  drag(pointer, dx, dy) {
    const { viewer } = this, x = Math.round(dx * viewer.ratio), y = Math.round(dy * viewer.ratio);
    viewer.pan(x, y);
    pointer.x += x / viewer.ratio;
    pointer.y += y / viewer.ratio;
  }

  // Zoom by how far two fingers are apart, and pan with the middle between them.
  pinch(event, pointer) {
    const { viewer } = this;
    const other = [...this.pointers].find(([id, each]) => id !== event.pointerId && each.purpose === "pinch")?.[1];
    if (!other) return viewer.pan((event.clientX - pointer.x) * viewer.ratio, (event.clientY - pointer.y) * viewer.ratio);
    const was = Math.hypot(pointer.x - other.x, pointer.y - other.y);
    const now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    viewer.pan(((event.clientX - pointer.x) / 2) * viewer.ratio, ((event.clientY - pointer.y) / 2) * viewer.ratio);
    const middle = this.at({ clientX: (event.clientX + other.x) / 2, clientY: (event.clientY + other.y) / 2 });
    if (was > 0) viewer.setZoom((viewer.zoom * now) / was, ...this.inPane(middle));
  }

  lift(event) {
    const pointer = this.pointers.get(event.pointerId), { viewer } = this;
    this.pointers.delete(event.pointerId);
    if (pointer?.purpose === "paint") viewer.brush.lift();
    if (pointer?.still && pointer.purpose === "pan" && viewer.mode === "blink" && event.type === "pointerup") {
      viewer.blink.press();
      viewer.blink.lift();
    }
    if (event.pointerType !== "mouse" && viewer.brush.on) viewer.brush.follow(null);
  }

  // Letters work in the whole viewer; keys that controls use themselves only on the stage.
  key(event) {
    const { viewer } = this, onStage = viewer.stage.contains(event.target) && !event.target.closest("button, input");
    if (event.ctrlKey || event.metaKey || event.altKey || !viewer.item) return;
    if (event.target.closest("input:not([type=range]), textarea, select")) return;
    const letters = /^[a-z]$/.test(event.key) || event.key === "Escape" || "+=-[]".includes(event.key);
    if (!onStage && !letters) return;
    if (event.key === " ") this.space = true;
    if (this.act(event)) event.preventDefault();
  }

  act(event) {
    const { viewer } = this, onDivider = event.target === viewer.divider;
    if (viewer.brush.on && !onDivider && viewer.brush.key(event, this.space)) return true;
    const step = event.shiftKey ? 0.1 : 0.02;
    const split = (by) => () => viewer.setSplit(viewer.split + by), pan = (x, y) => () => viewer.pan(x * PAN_STEP, y * PAN_STEP);
    const act = (action) => () => viewer.act(action);
    const keys = {
      "+": act("in"), "=": act("in"), "-": act("out"), 0: act("fit"), 1: act("full"),
      s: act(viewer.mode === "split" ? "side" : "split"), d: act("difference"), h: act("heat"), a: act("all"),
      k: act(viewer.mode === "blink" ? "play" : "blink"), l: () => this.holdLoupe(event), b: act("regions"),
      r: act("reference"), i: act("smooth"), f: act("screen"), n: act("next"), p: act("previous"),
      "[": split(-0.02), "]": split(0.02), Home: () => viewer.setSplit(0), End: () => viewer.setSplit(1),
      ArrowLeft: onDivider ? split(-step) : pan(1, 0), ArrowRight: onDivider ? split(step) : pan(-1, 0),
      ArrowUp: pan(0, 1), ArrowDown: pan(0, -1),
      " ": () => { if (viewer.mode === "blink" && !event.repeat) viewer.blink.press(); },
      Escape: () => { if (viewer.loupe.on) viewer.loupe.toggle(); },
    };
    if (!keys[event.key]) return false;
    keys[event.key]();
    return true;
  }

  // By keyboard alone the loupe is in the middle; the mouse takes it along.
  holdLoupe(event) {
    if (event.repeat) return;
    this.viewer.act("loupe");
    this.loupeSince = this.viewer.loupe.on ? performance.now() : null;
  }

  keyUp(event) {
    const { viewer } = this;
    if (event.key === " ") {
      this.space = false;
      if (viewer.mode === "blink") viewer.blink.lift();
    }
    if (event.key === "l" && this.loupeSince && performance.now() - this.loupeSince > LOUPE_HOLD && viewer.loupe.on) viewer.act("loupe");
    if (event.key === "l") this.loupeSince = null;
  }
}
