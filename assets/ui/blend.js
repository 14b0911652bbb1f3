// Blends the corners of a steered result, so that the picture follows a slider without the server.
//
// A result steered by values v1, v2, ... is c0 + v1 (c1 - c0) + v2 (c2 - c1) + ...; its corners c come in 8 bits over
// [-1/4, 5/4] (srgui/ui/shelf.py), so that what overshoots black and white is blended as the server does it.

const SPAN = 1.5, LOW = -0.25;

// The weight of each corner; they sum to 1, so the offset of the coding passes through the blend.
export function weightsOf(values) {
  return [1, ...values].map((value, i) => value - (values[i] ?? 0));
}

// PSNR in dB of the blend at `values`, from mean inner products (srgui/blends.py).
export function psnrOf(gram, values) {
  const vector = [1, ...values];
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
uniform float weight[${count}];
out vec4 colour;
void main() {
  ivec2 size = textureSize(corner[0], 0), at = ivec2(gl_FragCoord.x, float(size.y) - gl_FragCoord.y);
  vec4 sum = vec4(0);
${Array.from({ length: count }, (_, i) => `  sum += weight[${i}] * texelFetch(corner[${i}], at, 0);`).join("\n")}
  colour = vec4(clamp(sum.rgb * ${SPAN.toFixed(2)} + ${LOW.toFixed(2)}, 0.0, 1.0), texelFetch(corner[0], at, 0).a);
}`;

// On a graphics card. Without one, WebGL is drawn in software, at twice what the loop below takes.
class CardMixer {
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

  load(images) {
    const { gl } = this;
    [this.canvas.width, this.canvas.height] = [images[0].width, images[0].height];
    images.forEach((image, i) => {
      this.textures[i] ??= gl.createTexture();
      gl.activeTexture(gl.TEXTURE0 + i);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[i]);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
    });
  }

  mix(weights) {
    const { gl, canvas } = this, program = this.program(weights.length);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(program);
    gl.uniform1iv(gl.getUniformLocation(program, "corner"), weights.map((_, i) => i));
    gl.uniform1fv(gl.getUniformLocation(program, "weight"), weights);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

class LoopMixer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  load(images) {
    [this.canvas.width, this.canvas.height] = [images[0].width, images[0].height];
    this.corners = images.map((image) => image.data);
    this.result = new ImageData(new Uint8ClampedArray(images[0].data), images[0].width, images[0].height); // its alpha stays
  }

  mix(weights) {
    const out = this.result.data, offset = LOW * 255;
    const [a, b, c = b] = this.corners, [u, v, w = 0] = weights.map((weight) => weight * SPAN);
    for (let i = 0; i < out.length; i += 4) {
      out[i] = u * a[i] + v * b[i] + w * c[i] + offset;
      out[i + 1] = u * a[i + 1] + v * b[i + 1] + w * c[i + 1] + offset;
      out[i + 2] = u * a[i + 2] + v * b[i + 2] + w * c[i + 2] + offset;
    }
    this.context.putImageData(this.result, 0, 0);
  }
}

// Blends pictures of the view's size: `load` them (ImageData, two or three), then `mix` as often as a slider moves.
export class Mixer {
  constructor() {
    const canvas = document.createElement("canvas");
    this.mixer = CardMixer.on(canvas) ?? new LoopMixer(document.createElement("canvas"));
  }

  get canvas() { return this.mixer.canvas; }
  load(images) { this.mixer.load(images); }
  mix(weights) { this.mixer.mix(weights); }
}
