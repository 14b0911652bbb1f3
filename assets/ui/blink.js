// Before and after in turns: on a timer, or by the hand of a person.

const BLINK_TIME = 800;
const HOLD_TIME = 350; // a key or finger that is held longer shows the other picture only while it is held

export class Blink {
  constructor(viewer) {
    this.viewer = viewer;
    this.after = true;
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.still.addEventListener("change", () => { if (this.still.matches) this.pause(); });
  }

  get playing() { return Boolean(this.timer); }

  enter() {
    this.after = true;
    if (!this.still.matches) this.play();
  }

  play() {
    this.pause();
    this.timer = setInterval(() => (this.viewer.root.isConnected ? this.turn() : this.pause()), BLINK_TIME);
    this.viewer.redraw();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.viewer.redraw();
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  turn() {
    this.after = !this.after;
    this.viewer.redraw();
  }

  press() {
    this.pause();
    this.turn();
    this.pressed = performance.now();
  }

  lift() {
    if (this.pressed && performance.now() - this.pressed > HOLD_TIME) this.turn();
    this.pressed = null;
  }
}
