// A viewer without a server: the layers are pictures that the page itself holds.

import { TILE } from "./tiles.js";
import { Viewer } from "./viewer.js";

// `images`: data URLs of PNGs, by id and layer.
export function share(root, value, images) {
  const decoded = new Map();
  const layerOf = ({ id, layer }) => {
    const key = `${id}/${layer}`;
    if (!decoded.has(key)) decoded.set(key, fetch(images[id][layer]).then((answer) => answer.blob()).then((blob) => createImageBitmap(blob)));
    return decoded.get(key);
  };
  const fetchTile = async (request) => {
    const image = await layerOf(request), step = 2 ** request.level, side = TILE * step;
    const [left, top] = [request.x * side, request.y * side];
    const [width, height] = [Math.min(side, image.width - left), Math.min(side, image.height - top)];
    const canvas = new OffscreenCanvas(Math.ceil(width / step), Math.ceil(height / step));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
    return new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  };
  const viewer = new Viewer(root, fetchTile);
  root.viewer = viewer;
  viewer.show(value);
}
