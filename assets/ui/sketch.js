// Small pictures from the server that follow a slider where the browser cannot blend. One is under way at a time; of the
// settings that were asked for meanwhile the last one counts.

export class Sketch {
  // `fetchSketch` takes what `follow` is given and resolves to the bytes of a PNG, or to null where there is none.
  constructor(fetchSketch, onArrival) {
    Object.assign(this, { fetchSketch, onArrival, image: null, wanted: null, busy: false, round: 0 });
  }

  // `ask` makes the request when its turn has come.
  async follow(ask) {
    this.wanted = ask;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted) {
      const { wanted, round } = this;
      this.wanted = null;
      try {
        const png = await this.fetchSketch(await wanted());
        if (png) this.take(await createImageBitmap(new Blob([png], { type: "image/png" })), round);
      } catch (error) {
        console.warn("preview", error);
      }
    }
    this.busy = false;
  }

  take(image, round) {
    if (round !== this.round) return image.close();
    this.image?.close();
    this.image = image;
    this.onArrival();
  }

  // The exact picture is there, or another one is shown.
  forget() {
    this.image?.close();
    Object.assign(this, { image: null, wanted: null, round: this.round + 1 });
  }
}
