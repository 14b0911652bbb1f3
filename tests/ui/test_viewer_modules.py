"""The viewer's modules by themselves: what they compute, in the browser that runs them."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from srgui.metrics import to_y

MODULES = Path(__file__).resolve().parents[2] / "assets" / "ui"
HOST = "http://modules.test/"


@pytest.fixture(scope="module")
def call(browser):
    """Evaluate an expression in which ``m`` is a module: ``call("geometry", "m.zoomStep(1, true)")``; ``a`` is the argument."""
    context = browser.new_context()
    page = context.new_page()

    def serve(route):
        name = route.request.url.removeprefix(HOST)
        if name:
            route.fulfill(body=(MODULES / name).read_text(), content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    page.route(f"{HOST}**", serve)
    page.goto(HOST)
    yield lambda module, expression, argument=None: page.evaluate(
        f"async (a) => {{ const m = await import('{HOST}{module}.js'); return {expression}; }}", argument
    )
    context.close()


def test_every_module_is_on_the_page_and_no_name_is_used_twice():
    from srgui.ui.viewer import _MEASURING, _MODULES

    used: dict[str, str] = {}
    modules = (*_MODULES, *_MEASURING, "share")
    for module in modules:
        text = (MODULES / f"{module}.js").read_text()
        for line in re.findall(r"^import .*$", text, flags=re.MULTILINE):
            assert re.fullmatch(r'import \{ [\w, ]+ \} from "\./\w+\.js";', line), line
            assert re.search(r"\./(\w+)\.js", line).group(1) in modules
        for name in re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", text, flags=re.MULTILINE):
            assert name not in used, f"{name} is in {used[name]} and {module}"
            used[name] = module


@pytest.mark.parametrize(
    ("mode", "comparing", "reference", "panes"),
    [
        ("split", True, True, ["both"]),
        ("side", True, True, ["before", "after"]),
        ("side", False, False, ["lr"]),
        ("blink", True, False, ["both"]),
        ("all", True, False, ["lr", "after"]),
        ("all", True, True, ["lr", "after", "hr"]),
    ],
)
def test_the_panes_of_a_mode(call, mode, comparing, reference, panes):
    assert call("geometry", "m.panesIn(...a)", [mode, comparing, reference]) == panes


@pytest.mark.parametrize("stacked", [False, True])
def test_panes_are_equal_and_do_not_overlap(call, stacked):
    for width, height, count in ((871, 550, 3), (360, 501, 2), (5, 4, 3)):
        panes = call("geometry", "m.layOut(...a)", [["a", "b", "c"][:count], width, height, stacked])
        assert len({(pane["width"], pane["height"]) for pane in panes}) == 1
        start, length, whole = ("top", "height", height) if stacked else ("left", "width", width)
        ends = [pane[start] + pane[length] for pane in panes]
        assert all(end < after[start] for end, after in zip(ends, panes[1:], strict=False))
        assert ends[-1] <= max(whole, 2 * count + count)
        middle = panes[1]
        assert call("geometry", "m.paneAt(...a)", [panes, middle["left"], middle["top"]]) == middle


def test_what_is_visible_is_whole_samples_within_the_picture(call):
    rng = np.random.default_rng(0)
    for _ in range(50):
        width, height = (int(n) for n in rng.integers(1, 3000, 2))
        zoom = float(2 ** rng.uniform(-5, 5))
        frame = {"x": int(rng.integers(-2000, 500)), "y": int(rng.integers(-2000, 500)), "zoom": zoom, "width": 640, "height": 480}
        box = call("geometry", "m.visibleBox(...a)", [frame, [width, height]])
        assert all(isinstance(value, int) for value in box.values())
        assert 0 <= box["left"] < box["left"] + box["width"] <= width
        assert 0 <= box["top"] < box["top"] + box["height"] <= height
    fits = {"x": 20, "y": 0, "zoom": 0.5, "width": 640, "height": 480}
    assert call("geometry", "m.visibleBox(...a)", [fits, [1200, 960]]) == {"left": 0, "top": 0, "width": 1200, "height": 960}
    part = {"x": -101, "y": -10, "zoom": 2, "width": 100, "height": 20}
    assert call("geometry", "m.visibleBox(...a)", [part, [500, 500]]) == {"left": 50, "top": 5, "width": 51, "height": 10}


def test_zooms_go_up_and_down_in_steps_and_a_picture_leaves_no_gap(call):
    assert call("geometry", "[m.zoomStep(1, true), m.zoomStep(1, false), m.zoomStep(32, true)]") == [1.5, 0.67, 32]
    assert call("geometry", "m.zoomStep(0.04, false)") == 0.02
    assert call("geometry", "[m.clampOffset(50, 100, 2, 150), m.clampOffset(-500, 100, 2, 150), m.clampOffset(3, 10, 1, 20)]") == [
        0,
        -50,
        5,
    ]
    frame = call("geometry", "m.frameAround(30, 40, 8, 100, 60)")
    assert (frame["x"] + 30 * 8, frame["y"] + 40 * 8) == (50, 30)


def test_levels_and_tiles(call):
    assert call("tiles", "[4, 1, 0.9, 0.5, 0.26, 0.25].map(m.levelFor)") == [0, 0, 0, 1, 1, 2]
    assert call("tiles", "m.tilesIn({left: 500, right: 600, top: -5, bottom: 10}, 1000, 1000, 0)") == [[0, 0], [1, 0]]
    assert call("tiles", "m.tilesIn({left: 0, right: 9999, top: 0, bottom: 9999}, 1025, 300, 1)") == [[0, 0], [1, 0]]


def test_the_weights_of_the_corners_sum_to_one(call):
    assert call("blend", "m.weightsOf([0.25, 1.5])") == [0.75, -1.25, 1.5]
    assert call("blend", "m.weightsOf([1])") == [0, 1]


def gram_of(parts):
    stack = torch.stack([part.flatten() for part in parts]).double()
    return (stack @ stack.T / stack.shape[1]).tolist()


def test_psnr_is_that_of_the_picture_with_and_without_a_mask(call):
    generator = torch.Generator().manual_seed(1)
    reference, *corners = (torch.rand(1, 1, 12, 10, generator=generator) for _ in range(4))
    mask = torch.rand(1, 1, 12, 10, generator=generator)
    start, one, two = corners[0] - reference, corners[1] - corners[0], corners[2] - corners[1]
    values, masked = [0.3, 1.2], [1.0, 0.1]

    def psnr(picture):
        return -10 * math.log10(float((picture - reference).double().square().mean()))

    plain = corners[0] + values[0] * one + values[1] * two
    other = corners[0] + masked[0] * one + masked[1] * two
    small = gram_of([start, one, two])
    large = gram_of([start, (1 - mask) * one, (1 - mask) * two, mask * one, mask * two])
    assert call("blend", "m.psnrOf(...a)", [small, values]) == pytest.approx(psnr(plain), abs=1e-4)
    assert call("blend", "m.psnrOf(...a)", [large, values, masked]) == pytest.approx(
        psnr((1 - mask) * plain + mask * other), abs=1e-4
    )
    assert call("blend", "m.psnrOf(...a)", [large, values]) == pytest.approx(psnr(plain), abs=1e-4)
    assert call("blend", "m.psnrOf(...a)", [small, values, masked]) is None
    assert call("blend", "m.psnrOf([[0, 0], [0, 0]], [1])") == math.inf


MIX = """(() => {
  const size = [a.width, a.height], mixer = MIXER;
  if (!mixer) return null;
  const corners = a.corners.map((flat) => new ImageData(Uint8ClampedArray.from(flat), ...size));
  mixer.load(corners);
  if (a.mask) mixer.cover(Uint8Array.from(a.mask));
  mixer.mix(m.weightsOf(a.values), a.masked && m.weightsOf(a.masked));
  const seen = new OffscreenCanvas(...size).getContext("2d");
  seen.drawImage(mixer.canvas, 0, 0);
  return [...seen.getImageData(0, 0, ...size).data];
})()"""
LOOP = "new m.LoopMixer(document.createElement('canvas'))"
CARD = """(() => {
  const canvas = document.createElement("canvas"), gl = canvas.getContext("webgl2", { premultipliedAlpha: false });
  return gl && new m.CardMixer(gl, canvas);
})()"""


@pytest.mark.parametrize("mixer", [LOOP, CARD], ids=["loop", "card"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("with_mask", [False, True], ids=["whole", "regions"])
def test_both_mixers_blend_as_the_formula_says(call, mixer, count, with_mask):
    rng = np.random.default_rng(count)
    corners = rng.integers(0, 256, (count, 6, 7, 4), dtype=np.uint8)
    corners[..., 3] = 255
    mask = rng.integers(0, 256, (6, 7), dtype=np.uint8)
    values, masked = [0.8, 1.3][: count - 1], [1.0, 0.0][: count - 1]
    asked = {"width": 7, "height": 6, "corners": corners.reshape(count, -1).tolist(), "values": values}
    if with_mask:
        asked |= {"mask": mask.ravel().tolist(), "masked": masked}
    found = call("blend", MIX.replace("MIXER", mixer), asked)
    if found is None:
        pytest.skip("this browser has no WebGL")
    decoded = corners[..., :3] / 255 * 1.5 - 0.25
    steps = np.diff(decoded, axis=0)

    def at(scales):
        return decoded[0] + sum(scale * step for scale, step in zip(scales, steps, strict=True))

    share = mask[..., None] / 255 if with_mask else 0
    expected = np.clip((1 - share) * at(values) + share * at(masked), 0, 1) * 255
    assert np.abs(np.array(found).reshape(6, 7, 4)[..., :3] - expected).max() <= 1.01


def test_the_difference_of_equal_pictures_is_black_and_grows_with_the_gain(call):
    draw = "(() => { const out = new Uint8ClampedArray(8); m.drawDifference(a.before, a.after, out, a.gain); return [...out]; })()"
    one, other = [10, 200, 30, 255, 0, 0, 0, 0], [13, 190, 30, 255, 90, 90, 90, 255]
    assert call("errors", draw, {"before": one, "after": one, "gain": 16})[:4] == [0, 0, 0, 255]
    assert call("errors", draw, {"before": one, "after": other, "gain": 8}) == [24, 80, 0, 255, 255, 255, 255, 0]


def test_the_heat_map_shows_the_error_of_the_luma_that_psnr_is_of(call):
    draw = "(() => { const out = new Uint8ClampedArray(4 * a.n); m.drawHeat(a.before, a.after, out, a.gain); return [...out]; })()"
    rng = np.random.default_rng(3)
    before, after = (rng.integers(0, 256, (40, 4), dtype=np.uint8) for _ in range(2))
    before[:, 3] = after[:, 3] = 255
    found = np.array(call("errors", draw, {"before": before.ravel().tolist(), "after": after.ravel().tolist(), "gain": 2, "n": 40}))
    y = [to_y(torch.from_numpy(part[:, :3].T.copy()).float().div(255).reshape(1, 3, 40, 1)).flatten() for part in (before, after)]
    for colour, error in zip(found.reshape(40, 4)[:, :3].tolist(), ((y[1] - y[0]).abs() * 255).tolist(), strict=True):
        places = [round(min(255, 2 * error + slack)) for slack in (-0.01, 0.01)]
        assert colour in [call("errors", "m.heatColour(a / 255)", place) for place in places]


def test_the_scale_of_the_heat_map_gets_steadily_brighter_and_says_its_values(call):
    colours = np.array(call("errors", "Array.from({ length: 256 }, (_, i) => m.heatColour(i / 255))"))
    linear = np.where(colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    assert (np.diff(lightness) > -0.05).all()
    assert lightness[0] < 1
    assert lightness[-1] > 95
    assert call("errors", "[1, 4, 16].map(m.heatTicks)") == [[0, 64, 128, 192, 255], [0, 16, 32, 48, 64], [0, 4, 8, 12, 16]]


def test_masks_are_small_and_never_larger_than_the_result(call):
    cases = {(2880, 1440): [512, 256], (300, 200): [300, 200], (513, 1): [512, 1], (4096, 4): [512, 1], (512, 512): [512, 512]}
    for size, expected in cases.items():
        assert call("mask", "m.maskSize(...a)", list(size)) == expected


def test_the_brush_is_soft_at_its_edge_and_erases_what_it_painted(call):
    assert call("mask", "[0, 0.5, 0.75, 1, 2].map((d) => m.brushCover(d, 1))") == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-6)
    paint = """(() => {
      const mask = new m.Mask(40, 30), at = { x: 10, y: 15 }, to = { x: 30, y: 15 };
      mask.stroke(at, to, 6);
      const painted = [...mask.bytes], box = mask.box;
      mask.stroke(at, to, 6);
      const again = [...mask.bytes];
      mask.stroke(at, to, 14, true);
      return { painted, again, box, empty: mask.empty };
    })()"""
    found = call("mask", paint)
    painted = np.array(found["painted"]).reshape(30, 40)
    assert found["painted"] == found["again"]
    assert found["empty"]
    assert (painted[15, 9:31] == 255).all()
    assert (painted[:9] == 0).all()
    assert (np.diff(painted[8:15, 20]) > 0).sum() >= 3
    rows, columns = np.nonzero(painted)
    assert found["box"] == {"left": columns.min(), "right": columns.max() + 1, "top": rows.min(), "bottom": rows.max() + 1}


@pytest.mark.parametrize("zoom", [0.4, 1, 7.3])
def test_a_mask_is_stretched_bilinearly_over_the_result(call, zoom):
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (6, 8), dtype=np.uint8)
    small[:2] = 0  # an empty border, which is skipped
    size, frame = (80, 60), {"x": -13, "y": 5, "zoom": zoom, "width": 70, "height": 50}
    stretch = "[...new m.Mask(8, 6, Uint8Array.from(a.bytes)).stretched(a.frame, a.size)]"
    found = np.array(call("mask", stretch, {"bytes": small.ravel().tolist(), "frame": frame, "size": size})).reshape(50, 70)
    rows = (np.arange(50) + 0.5 - frame["y"]) / zoom * 6 / 60 - 0.5
    columns = (np.arange(70) + 0.5 - frame["x"]) / zoom * 8 / 80 - 0.5
    inside = np.outer((rows > -0.5) & (rows < 5.5), (columns > -0.5) & (columns < 7.5))
    rows, columns = rows.clip(0, 5), columns.clip(0, 7)
    by_column = np.array([np.interp(columns, np.arange(8), row) for row in small.astype(float)])
    expected = np.array([np.interp(rows, np.arange(6), column) for column in by_column.T]).T
    assert np.abs(found - expected)[inside].max() <= 0.51
    if zoom == 1:
        torch_like = interpolate(torch.from_numpy(small).float()[None, None], (60, 80), mode="bilinear")[0, 0].numpy()
        assert np.abs(found[5:50, :67] - torch_like[:45, 13:80]).max() <= 0.51


def test_a_mask_travels_as_a_greyscale_picture(call):
    bytes_ = np.random.default_rng(6).integers(0, 256, (5, 9), dtype=np.uint8)
    url = call("mask", "await m.maskToUrl(new m.Mask(9, 5, Uint8Array.from(a)))", bytes_.ravel().tolist())
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), bytes_)
    back = call("mask", "(await m.maskFromUrl(a, [9, 5])).bytes.join()", url)
    assert back == ",".join(map(str, bytes_.ravel()))


def test_the_sliders_of_a_region_start_where_other_detail_is(call):
    semantic = {"name": "semantic", "min": 0, "max": 1.5}
    assert call("steering", "m.regionalDefault(a, true)", semantic) == 0
    assert call("steering", "m.regionalDefault(a, false)", semantic) == 1
    assert call("steering", "m.regionalDefault(a, true)", {**semantic, "regional": 0.4}) == 0.4


def test_previews_come_one_at_a_time_and_the_last_wish_counts(call):
    script = """await (async () => {
      const png = Uint8Array.from(atob(a), (c) => c.charCodeAt(0)), asked = [], gates = [];
      const sketch = new m.Sketch((request) => new Promise((open) => { asked.push(request); gates.push(open); }), () => {});
      const rest = () => new Promise((done) => setTimeout(done, 60));
      for (const request of [1, 2, 3]) sketch.follow(() => request);
      await rest();
      const first = [...asked];
      gates.shift()(png);
      await rest();
      const second = [...asked], shown = Boolean(sketch.image);
      sketch.forget();
      gates.shift()(png);
      await rest();
      const late = sketch.image;
      sketch.follow(() => 4);
      await rest();
      gates.shift()(null);
      await rest();
      return { first, second, shown, late, none: sketch.image, busy: sketch.busy };
    })()"""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "PNG")
    found = call("sketch", script, base64.b64encode(buffer.getvalue()).decode())
    assert found == {"first": [1], "second": [1, 3], "shown": True, "late": None, "none": None, "busy": False}
