// Which tiles of a picture a view needs, and a cache of those that have arrived.
//
// The server cuts each layer of a picture into lossless tiles of TILE x TILE samples, `level` times halved.

export const TILE = 512;
const MAX_TILES = 400;

// The level whose samples are closest to, but not coarser than, device pixels at `zoom` device pixels per sample.
export function levelFor(zoom) {
  return zoom >= 1 ? 0 : Math.floor(Math.log2(1 / zoom) + 1e-9);
}

// Tiles [x, y] of `level` that touch the rectangle [left, right) x [top, bottom) of a layer of width x height samples.
export function tilesIn(rect, width, height, level) {
  const side = TILE * 2 ** level;
  const columns = Math.ceil(width / side), rows = Math.ceil(height / side);
  const found = [];
  for (let y = Math.max(0, Math.floor(rect.top / side)); y < Math.min(rows, Math.ceil(rect.bottom / side)); y++)
    for (let x = Math.max(0, Math.floor(rect.left / side)); x < Math.min(columns, Math.ceil(rect.right / side)); x++)
      found.push([x, y]);
  return found;
}

// A least-recently-used cache of decoded tiles. `fetchTile` resolves to the bytes of a PNG. What follows an @ in a layer's
// name tells its versions apart, and is not sent.
export class TileCache {
  constructor(fetchTile, onArrival) {
    this.fetchTile = fetchTile;
    this.onArrival = onArrival;
    this.tiles = new Map();
    this.arrivals = 0;
  }

  get(id, layer, level, x, y) {
    const key = [id, layer, level, x, y].join("/");
    const tile = this.tiles.get(key);
    if (tile) {
      this.tiles.delete(key);
      this.tiles.set(key, tile);
      return tile.image;
    }
    this.tiles.set(key, { image: null });
    this.load(key, { id, layer, level, x, y });
    return null;
  }

  async load(key, request) {
    try {
      const png = await this.fetchTile({ ...request, layer: request.layer.split("@")[0] });
      const image = await createImageBitmap(new Blob([png], { type: "image/png" }));
      if (!this.tiles.has(key)) return image.close();
      this.tiles.get(key).image = image;
    } catch (error) {
      this.tiles.delete(key);
      console.warn("tile", key, error);
      return;
    }
    for (const [old, tile] of this.tiles) {
      if (this.tiles.size <= MAX_TILES) break;
      tile.image?.close();
      this.tiles.delete(old);
    }
    this.arrivals++;
    this.onArrival();
  }

  // Whether every tile that was asked for has arrived.
  get settled() {
    return [...this.tiles.values()].every((tile) => tile.image);
  }
}
