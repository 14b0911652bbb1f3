// The mask of a region: 8 bits a pixel over the whole result, at most 512 on its longest side; 255 where it holds wholly.

const LONGEST_SIDE = 512;
const TINT = [244, 63, 94];

// Width and height of the mask of a result.
export function maskSize(width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  return [width, height].map((side) => Math.max(1, Math.round(side * scale)));
}

// How much a brush of `radius` covers at a distance from its centre: wholly up to half of it, then softly less.
export function brushCover(distance, radius) {
  const t = Math.min(1, Math.max(0, 2 * (distance / radius) - 1));
  return 0.5 + 0.5 * Math.cos(Math.PI * t);
}

function distanceTo(x, y, from, to) {
  const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy;
  const t = length ? Math.min(1, Math.max(0, ((x - from.x) * dx + (y - from.y) * dy) / length)) : 0;
  return Math.hypot(x - from.x - t * dx, y - from.y - t * dy);
}

export class Mask {
  constructor(width, height, bytes = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, bytes, version: 0 });
    this.measure();
  }

  static for([width, height]) { return new Mask(...maskSize(width, height)); }

  get empty() { return this.box.right <= this.box.left; }

  // Draw along a line between two points of the mask.
  stroke(from, to, radius, erase = false) {
    const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius)), top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
    const right = Math.min(this.width, Math.ceil(Math.max(from.x, to.x) + radius));
    const bottom = Math.min(this.height, Math.ceil(Math.max(from.y, to.y) + radius));
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++) {
        const cover = Math.round(255 * brushCover(distanceTo(x + 0.5, y + 0.5, from, to), radius)), at = y * this.width + x;
        this.bytes[at] = erase ? Math.min(this.bytes[at], 255 - cover) : Math.max(this.bytes[at], cover);
      }
    this.changed();
  }

  restore(bytes) {
    this.bytes.set(bytes);
    this.changed();
  }

  changed() {
    this.version++;
    this.measure();
  }

  // The box outside of which nothing is painted.
  measure() {
    const box = { left: this.width, top: this.height, right: 0, bottom: 0 };
    for (let y = 0, at = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++, at++) {
        if (!this.bytes[at]) continue;
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, y);
        box.bottom = y + 1;
      }
    this.box = box;
  }

  // The mask as it lies in a frame, stretched bilinearly over a result of `size`; a byte for each device pixel.
  stretched(frame, [width, height]) {
    const out = new Uint8Array(frame.width * frame.height);
    if (this.empty) return out;
    const stepX = (width * frame.zoom) / this.width, stepY = (height * frame.zoom) / this.height;
    const span = (low, high, step, offset, most) =>
      [Math.max(0, Math.floor((low - 1) * step + offset)), Math.min(most, Math.ceil((high + 1) * step + offset))];
    const [left, right] = span(this.box.left, this.box.right, stepX, frame.x, frame.width);
    const [top, bottom] = span(this.box.top, this.box.bottom, stepY, frame.y, frame.height);
    const columns = Array.from({ length: Math.max(0, right - left) }, (_, i) => texelsAt(left + i, stepX, frame.x, this.width));
    const low = Int32Array.from(columns, (c) => c[0]), high = Int32Array.from(columns, (c) => c[1]);
    const share = Float32Array.from(columns, (c) => c[2]);
    for (let y = top; y < bottom; y++) {
      const [above, below, part] = texelsAt(y, stepY, frame.y, this.height);
      const one = above * this.width, two = below * this.width, { bytes } = this;
      for (let i = 0, at = y * frame.width + left; i < low.length; i++, at++) {
        const upper = bytes[one + low[i]] + share[i] * (bytes[one + high[i]] - bytes[one + low[i]]);
        const lower = bytes[two + low[i]] + share[i] * (bytes[two + high[i]] - bytes[two + low[i]]);
        out[at] = upper + part * (lower - upper) + 0.5;
      }
    }
    return out;
  }

  // The mask as a tint with a bright edge, for drawing over the picture.
  tint() {
    const image = new ImageData(this.width, this.height);
    for (let i = 0; i < this.bytes.length; i++) {
      const cover = this.bytes[i] / 255, edge = 4 * cover * (1 - cover);
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = TINT[c] + (255 - TINT[c]) * 0.5 * edge;
      image.data[4 * i + 3] = 255 * (0.34 * cover + 0.4 * edge);
    }
    return image;
  }
}

// The two nearest texels to the device pixel `at` and the share of the second; the outermost go on beyond the edge.
function texelsAt(at, step, offset, count) {
  const place = Math.min(count - 1, Math.max(0, (at + 0.5 - offset) / step - 0.5)), low = Math.floor(place);
  return [low, Math.min(count - 1, low + 1), place - low];
}

// The bytes of an 8-bit greyscale PNG as a data URL; a canvas would write four channels.
export async function maskToUrl({ width, height, bytes }) {
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) rows.set(bytes.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
  const head = new Uint8Array(13), view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8;
  const parts = [pngChunk("IHDR", head), pngChunk("IDAT", new Uint8Array(await packed.arrayBuffer())), pngChunk("IEND", new Uint8Array())];
  const text = [new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]), ...parts].map((part) => Array.from(part, (b) => String.fromCharCode(b)).join(""));
  return `data:image/png;base64,${btoa(text.join(""))}`;
}

function pngChunk(kind, data) {
  const chunk = new Uint8Array(data.length + 12), view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  chunk.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  chunk.set(data, 8);
  let crc = -1;
  for (const byte of chunk.subarray(4, data.length + 8)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  view.setUint32(data.length + 8, ~crc);
  return chunk;
}

// The mask for a result of `size` from a data URL.
export async function maskFromUrl(url, [width, height]) {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const [w, h] = maskSize(width, height);
  const context = new OffscreenCanvas(w, h).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, w, h);
  return new Mask(w, h, context.getImageData(0, 0, w, h).data.filter((_, i) => i % 4 === 0));
}
