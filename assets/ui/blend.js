// Blends the corners of a steered result, so that the picture follows a slider without the server.
//
// A result steered by values v1, v2, ... is c0 + v1 (c1 - c0) + v2 (c2 - c1) + ...; its corners c come in 8 bits over
// [-1/4, 5/4] (srgui/ui/shelf.py), so that what overshoots black and white is blended as the server does it.

const SPAN = 1.5, LOW = -0.25;

// The weight of each corner; they sum to 1, so the offset of the coding passes through the blend.
export function weightsOf(values) {
  return [1, ...values].map((value, i) => value - (values[i] ?? 0));
}

// PSNR in dB of the blend at `values`, and at `masked` where a mask is, from mean inner products (srgui/blends.py); null
// where these are not of that blend. Without a mask both sides of it are at the same values.
export function psnrOf(gram, values, masked = null) {
  const plain = gram.length === values.length + 1 && !masked;
  const vector = plain ? [1, ...values] : [1, ...values, ...(masked ?? values)];
  if (vector.length !== gram.length) return null;
  let mse = 0;
  for (let i = 0; i < vector.length; i++)
    for (let j = 0; j < vector.length; j++) mse += vector[i] * vector[j] * gram[i][j];
  return mse > 0 ? -10 * Math.log10(mse) : Infinity;
}

const VERTEX = `#version 300 es
void main() { vec2 at = vec2((gl_VertexID & 1) * 4 - 1, (gl_VertexID & 2) * 2 - 1); gl_Position = vec4(at, 0, 1); }`;
const FRAGMENT = (count) => `#version 300 es
precision highp float;
uniform sampler2D corner[${count}];
uniform sampler2D mask;
uniform float weight[${count}];
uniform float masked[${count}];
out vec4 colour;
void main() {
  ivec2 size = textureSize(corner[0], 0), at = ivec2(gl_FragCoord.x, float(size.y) - gl_FragCoord.y);
  float share = texelFetch(mask, min(at, textureSize(mask, 0) - 1), 0).r;
  vec4 sum = vec4(0);
${Array.from({ length: count }, (_, i) => `  sum += mix(weight[${i}], masked[${i}], share) * texelFetch(corner[${i}], at, 0);`).join("\n")}
  colour = vec4(clamp(sum.rgb * ${SPAN.toFixed(2)} + ${LOW.toFixed(2)}, 0.0, 1.0), texelFetch(corner[0], at, 0).a);
}`;
const MASK_UNIT = 7; // the texture unit of the mask, after those of the corners

// On a graphics card. Without one, WebGL is drawn in software, at twice what the loop below takes.
export class CardMixer {
  static on(canvas) {
    const gl = canvas.getContext("webgl2", { premultipliedAlpha: false, preserveDrawingBuffer: true });
    const info = gl?.getExtension("WEBGL_debug_renderer_info");
    const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
    return gl && !/swiftshader|llvmpipe|software|basic render/i.test(name) ? new CardMixer(gl, canvas) : null;
  }

  constructor(gl, canvas) { Object.assign(this, { gl, canvas, programs: new Map(), textures: [] }); }

  program(count) {
    if (!this.programs.has(count)) {
      const { gl } = this, program = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT(count)]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, text);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
      }
      gl.linkProgram(program);
      this.programs.set(count, program);
    }
    return this.programs.get(count);
  }

  bind(unit) {
    const { gl } = this;
    this.textures[unit] ??= gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, this.textures[unit]);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
  }

  load(images) {
    const { gl } = this;
    [this.canvas.width, this.canvas.height] = [images[0].width, images[0].height];
    images.forEach((image, i) => {
      this.bind(i);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
    });
    this.cover(new Uint8Array(1), 1, 1);
  }

  cover(bytes, width = this.canvas.width, height = this.canvas.height) {
    const { gl } = this;
    this.bind(MASK_UNIT);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, bytes);
  }

  mix(weights, masked) {
    const { gl, canvas } = this, program = this.program(weights.length), at = (name) => gl.getUniformLocation(program, name);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(program);
    gl.uniform1iv(at("corner"), weights.map((_, i) => i));
    gl.uniform1i(at("mask"), MASK_UNIT);
    gl.uniform1fv(at("weight"), weights);
    gl.uniform1fv(at("masked"), masked ?? weights);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

export class LoopMixer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  load(images) {
    [this.canvas.width, this.canvas.height] = [images[0].width, images[0].height];
    this.corners = images.map((image) => image.data);
    this.result = new ImageData(new Uint8ClampedArray(images[0].data), images[0].width, images[0].height); // its alpha stays
  }

  cover(bytes) { this.mask = bytes; }

  mix(weights, masked) {
    if (masked) this.mixMasked(weights, masked);
    else this.mixPlain(weights);
    this.context.putImageData(this.result, 0, 0);
  }

  mixPlain(weights) {
    const out = this.result.data, offset = LOW * 255;
    const [a, b, c = b] = this.corners, [u, v, w = 0] = weights.map((weight) => weight * SPAN);
    for (let i = 0; i < out.length; i += 4) {
      out[i] = u * a[i] + v * b[i] + w * c[i] + offset;
      out[i + 1] = u * a[i + 1] + v * b[i + 1] + w * c[i + 1] + offset;
      out[i + 2] = u * a[i + 2] + v * b[i + 2] + w * c[i + 2] + offset;
    }
  }

  mixMasked(weights, masked) {
    const out = this.result.data, offset = LOW * 255, { mask } = this;
    const [a, b, c = b] = this.corners, [u0, v0, w0 = 0] = weights.map((weight) => weight * SPAN);
    const [du, dv, dw = 0] = masked.map((weight, i) => ((weight - weights[i]) * SPAN) / 255);
    for (let i = 0, at = 0; i < out.length; i += 4, at++) {
      const share = mask[at], u = u0 + share * du, v = v0 + share * dv, w = w0 + share * dw;
      out[i] = u * a[i] + v * b[i] + w * c[i] + offset;
      out[i + 1] = u * a[i + 1] + v * b[i + 1] + w * c[i + 1] + offset;
      out[i + 2] = u * a[i + 2] + v * b[i + 2] + w * c[i + 2] + offset;
    }
  }
}

// Blends pictures of the view's size: `load` them (ImageData, two or three), `cover` them with a mask (a byte for each
// pixel) if other weights hold in a region, then `mix` as often as a slider moves.
export class Mixer {
  constructor() {
    const canvas = document.createElement("canvas");
    this.mixer = CardMixer.on(canvas) ?? new LoopMixer(document.createElement("canvas"));
  }

  get canvas() { return this.mixer.canvas; }
  load(images) { this.mixer.load(images); }
  cover(bytes) { this.mixer.cover(bytes); }
  mix(weights, masked = null) { this.mixer.mix(weights, masked); }
}
