"""The viewer on the page: every way to compare, by mouse, finger and keyboard, and the brush."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PHOTO = Path(__file__).resolve().parents[2] / "assets" / "examples" / "cat.png"
SIZE = (140, 180)  # of the result; the example is shrunk four times first
MODES = ("split", "side", "blink", "difference", "heat", "all")
VIEWER = "const v = document.querySelector('#viewer .sv').viewer;"
SETTLED = f"""() => {{
  {VIEWER}
  return ['lr', 'hr', v.result, ...v.item.guide.corners].every((name) => v.ready(name)) && v.cache.settled && !v.pending;
}}"""
PANE = f"""(index) => {{
  {VIEWER}
  const {{ left, top, width, height }} = v.panes()[index];
  const bytes = v.context.getImageData(left, top, width, height).data;
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return [btoa(text), width, height, v.x, v.y];
}}"""


@pytest.fixture(scope="module")
def visitor(server, browser, open_group):
    """A page with an upscaled example that has a reference; made once, because no test here needs another."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    strange: list[str] = []
    page.on("pageerror", lambda error: strange.append(f"script error: {error}"))
    page.goto(server)
    page.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    page.set_input_files("#pictures input[type=file]", PHOTO)
    open_group(page, "Measure against a reference")
    page.get_by_label("My picture is the HR: shrink it first").click()
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=120_000)
    page.wait_for_selector(".sv-scales input[name=semantic]")
    page.locator("#viewer").scroll_into_view_if_needed()
    yield page
    context.close()
    assert strange == []


@pytest.fixture
def page(visitor):
    """The viewer as it opens, at 1:1. What it asks of the server is kept in ``asked`` and not sent."""
    run(
        visitor,
        """
        window.send ??= v.steering.release;
        v.steering.release = (asked) => window.asked.push(asked);
        window.asked = [];
        window.told = [];
        const tell = (event) => window.told.push([event.type, event.detail]);
        window.telling ??= ["steer", "view", "show"].map((kind) => v.addEventListener(kind, tell));
        window.opened ??= v.items;
        v.brush.masks.clear();
        v.brush.resize(64);
        Object.assign(v.brush, { on: false, erase: false, seen: true, at: null, byKey: false });
        Object.assign(v.loupe, { on: false, at: null });
        Object.assign(v, { left: "lr", smooth: false, live: null, picked: false });
        v.steering.guided = v.steering.rendered = null;
        v.toolbar.gain.value = 2;
        v.show({ items: window.opened, index: 0 });
        v.setMode("split");
        v.setSplit(0.5);
        v.setZoom(1);
        v.stage.focus();
        """,
    )
    settle(visitor)
    yield visitor
    visitor.emulate_media(reduced_motion="no-preference")
    visitor.set_viewport_size({"width": 1280, "height": 800})
    run(visitor, "clearTimeout(v.steering.rest);")


def run(page, script, argument=None):
    return page.evaluate(f"(a) => {{ {VIEWER} {script} }}", argument)


def settle(page):
    page.wait_for_function(SETTLED)


def pane(page, index=0):
    """The picture as one pane shows it at 1:1, (H, W, 3) int."""
    settle(page)
    data, width, height, x, y = page.evaluate(PANE, index)
    whole = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
    return whole[y : y + SIZE[0], x : x + SIZE[1], :3].astype(int)


def layers(page):
    """Original, result and reference, each from a divider at its end."""
    run(page, "v.setSplit(1);")
    before = pane(page)
    run(page, "v.act('reference');")
    reference = pane(page)
    run(page, "v.act('reference'); v.setSplit(0);")
    return before, pane(page), reference


def place(page, x, y):
    """Where a sample of the result is on the screen, in the last pane."""
    return run(
        page,
        """
        const box = v.canvas.getBoundingClientRect(), pane = v.panes().at(-1);
        return [box.left + (pane.left + v.x + a[0] * v.zoom) / v.ratio, box.top + (pane.top + v.y + a[1] * v.zoom) / v.ratio];
        """,
        [x, y],
    )


def touch(page, *fingers):
    """A gesture of fingers, each a list of places."""
    session = page.context.new_cdp_session(page)

    def send(kind, points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def points(step, count):
        return [{"x": finger[step][0], "y": finger[step][1], "id": i} for i, finger in enumerate(fingers[:count])]

    for count in range(1, len(fingers) + 1):
        send("touchStart", points(0, count))
    for step in range(1, len(fingers[0])):
        send("touchMove", points(step, len(fingers)))
    send("touchEnd", [])
    session.detach()


def test_side_by_side_and_all_show_the_layers_themselves(page):
    before, after, reference = layers(page)
    assert (before != after).any()
    page.keyboard.press("s")
    np.testing.assert_array_equal(pane(page, 0), before)
    np.testing.assert_array_equal(pane(page, 1), after)
    assert page.locator(".sv-label:visible").all_inner_texts()[:2] == ["Original", "Upscaled"]
    page.keyboard.press("a")
    for index, expected in enumerate((before, after, reference)):
        np.testing.assert_array_equal(pane(page, index), expected)
    assert page.locator("#viewer .sv-label:visible").all_inner_texts() == ["Original", "Upscaled", "Reference"]
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(f"() => {{ {VIEWER} return v.panes().every((p) => p.left === 0) && v.panes()[2].top > 0; }}")


def test_blinking_alternates_until_it_is_paused(page):
    before, after, _ = layers(page)
    page.keyboard.press("k")
    for name, expected in (("Original", before), ("Upscaled", after), ("Original", before)):
        page.wait_for_selector(f"#viewer .sv-label:visible:text-is('{name}')", timeout=10_000)
        run(page, "v.blink.pause();")
        if page.locator("#viewer .sv-label:visible").inner_text() == name:
            np.testing.assert_array_equal(pane(page), expected)
        run(page, "v.blink.play();")
    page.keyboard.press("k")
    assert not run(page, "return v.blink.playing;")
    shown = run(page, "return v.blink.after;")
    page.keyboard.press("Space")
    assert run(page, "return v.blink.after;") != shown
    x, y = place(page, 30, 30)
    page.mouse.click(x, y)
    assert run(page, "return v.blink.after;") == shown


def test_blinking_stands_still_for_those_who_want_less_motion(page):
    page.emulate_media(reduced_motion="reduce")
    page.keyboard.press("k")
    page.wait_for_selector("#viewer .sv-blink button:text-is('Play')")
    assert run(page, "return [v.blink.playing, v.blink.after];") == [False, True]
    page.keyboard.down("Space")
    assert run(page, "return v.blink.after;") is False
    page.wait_for_function(f"(since) => {{ {VIEWER} return performance.now() - v.blink.pressed > 400; }}")
    page.keyboard.up("Space")
    assert run(page, "return v.blink.after;") is True


def test_the_difference_is_amplified_and_that_of_equal_pictures_is_black(page):
    _, after, reference = layers(page)
    page.keyboard.press("r")
    page.keyboard.press("d")
    np.testing.assert_array_equal(pane(page), np.minimum(255, np.abs(after - reference) * 4))
    assert "Difference × 4: Upscaled against Reference" in page.locator("#viewer .sv-label:visible").inner_text()
    page.focus("#viewer [name=gain]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    np.testing.assert_array_equal(pane(page), np.minimum(255, np.abs(after - reference) * 16))
    run(page, "v.left = v.result; v.redraw();")
    assert pane(page).max() == 0


def test_the_difference_follows_the_sliders_without_the_server(page):
    page.keyboard.press("d")
    still = pane(page)
    run(page, "v.set({ pixel: 0, semantic: 0 }, false);")
    moved = pane(page)
    assert (moved != still).any()
    assert moved.mean() < still.mean()  # against bicubic interpolation there is next to none
    assert run(page, "return window.asked;") == []


def test_the_heat_map_has_a_legend_in_8_bit_values(page):
    _, after, reference = layers(page)
    page.keyboard.press("r")
    page.keyboard.press("h")
    shown = pane(page)
    assert page.locator("#viewer .sv-ticks span").all_inner_texts() == ["0", "16", "32", "48", "64+"]
    error = np.abs((after - reference) @ np.array([65.481, 128.553, 24.966]) / 255) * 4
    bright = shown.sum(axis=2)
    assert np.corrcoef(np.minimum(error, 255).ravel(), bright.ravel())[0, 1] > 0.97
    page.focus("#viewer [name=gain]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#viewer .sv-ticks span:text-is('128+')")


def test_the_wheel_zooms_all_panes_about_the_same_sample(page):
    page.keyboard.press("a")
    page.wait_for_function(f"() => {{ {VIEWER} return !v.pending && v.panes().length === 3; }}")
    x, y = place(page, 60, 50)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -900)
    page.wait_for_function(f"() => {{ {VIEWER} return v.zoom > 7.9; }}")
    assert place(page, 60, 50) == pytest.approx([x, y], abs=1)
    before = run(page, "return [v.x, v.y];")
    page.mouse.down()
    page.mouse.move(x + 30, y - 20, steps=3)
    page.mouse.up()
    assert run(page, "return [v.x, v.y];") == pytest.approx([before[0] + 30, before[1] - 20], abs=2)
    page.wait_for_function("() => window.told.some(([kind]) => kind === 'view')")
    box = run(page, "return v.visible();")
    settle(page)
    assert page.evaluate("() => window.told.findLast(([kind]) => kind === 'view')[1]") == box
    assert 0 < box["width"] < SIZE[1]


def test_two_fingers_zoom_and_pan_and_one_pans(page):
    x, y = place(page, 90, 70)
    touch(page, [(x - 40, y), (x - 60, y), (x - 120, y)], [(x + 40, y), (x + 60, y), (x + 120, y)])
    assert run(page, "return v.zoom;") == pytest.approx(3, rel=0.05)
    assert place(page, 90, 70) == pytest.approx([x, y], abs=6)
    run(page, "v.setZoom(16);")
    before = run(page, "return [v.x, v.y];")
    x -= 60  # beside the divider
    touch(page, [(x, y), (x + 20, y + 10), (x + 50, y + 30)])
    assert run(page, "return [v.x, v.y];") == pytest.approx([before[0] + 50, before[1] + 30], abs=2)


def test_the_loupe_shows_both_at_one_spot(page):
    before, after, _ = layers(page)
    page.keyboard.press("l")
    page.wait_for_selector("#viewer .sv-loupe:visible")
    assert page.locator("#viewer .sv-loupe span").all_inner_texts() == ["Original", "Upscaled"]
    settle(page)

    def middles():
        return np.array(
            run(
                page,
                """
                v.loupe.draw();
                const { canvas, context } = v.loupe, half = canvas.width / 2, at = canvas.height / 2 + 1;
                return [0, half].map((left) => [...context.getImageData(left + half / 2 + 1, at, 1, 1).data].slice(0, 3));
                """,
            )
        )

    np.testing.assert_array_equal(middles(), [before[70, 90], after[70, 90]])
    x, y = place(page, 40.5, 30.5)
    page.mouse.move(x, y)
    page.wait_for_function(f"() => {{ {VIEWER} return v.loupe.at !== null && !v.loupe.pending; }}")
    settle(page)
    found = middles()
    near = [before[29:32, 39:42].reshape(-1, 3), after[29:32, 39:42].reshape(-1, 3)]
    assert all((each == colour).all(axis=1).any() for each, colour in zip(near, found, strict=True))
    touch(page, [place(page, 60, 60), place(page, 80, 80)])
    assert run(page, "return v.zoom;") == 1
    np.testing.assert_allclose(run(page, "return v.loupe.spot().sample;"), [80, 80], atol=1)
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer .sv-loupe", state="hidden")
    page.keyboard.down("l")
    page.wait_for_selector("#viewer .sv-loupe:visible")
    page.wait_for_function(f"() => {{ {VIEWER} return performance.now() - v.hand.loupeSince > 400; }}")
    page.keyboard.up("l")
    page.wait_for_selector("#viewer .sv-loupe", state="hidden")


def at_scales(page, values):
    """The result blended at other scales, without a mask."""
    run(page, "v.set(a, false); v.setSplit(0);", values)
    return pane(page)


def paint(page, *samples):
    page.mouse.move(*place(page, *samples[0]))
    page.mouse.down()
    for sample in samples[1:]:
        page.mouse.move(*place(page, *sample), steps=4)
    page.mouse.up()


def test_the_brush_changes_the_painted_region_only_and_clearing_restores(page):
    other = at_scales(page, {"pixel": 1, "semantic": 0})
    whole = at_scales(page, {"pixel": 1, "semantic": 1})
    page.keyboard.press("b")
    page.wait_for_selector("#viewer .sv-region:visible")
    page.click("#viewer [data-action=tint]")
    paint(page, (60, 60), (120, 60))
    page.wait_for_function("() => window.asked.some((each) => each.mask)")
    painted = pane(page)
    inside, outside = np.s_[54:67, 60:120], np.s_[100:]
    assert np.abs(painted[inside] - other[inside]).max() <= 1
    assert np.abs(painted[outside] - whole[outside]).max() <= 1
    assert np.abs(other[inside] - whole[inside]).max() > 3
    asked = page.evaluate("window.asked.at(-1)")
    assert asked["values"] == {"pixel": 1, "semantic": 1}
    assert asked["masked"] == {"pixel": 1, "semantic": 0}
    mask = Image.open(io.BytesIO(base64.b64decode(asked["mask"].split(",")[1])))
    assert (mask.mode, mask.size) == ("L", SIZE[::-1])
    assert np.asarray(mask)[inside].min() == 255
    assert np.asarray(mask)[outside].max() == 0
    assert page.inner_text("#viewer .sv-score") == ""  # the inner products are not those of this mask
    kind, detail = page.evaluate("window.told.findLast(([kind]) => kind === 'steer')")
    assert (kind, detail["masked"], detail["hasMask"]) == ("steer", {"pixel": 1, "semantic": 0}, True)

    page.focus("#viewer .sv-masked input[name=semantic]")
    page.keyboard.press("End")
    page.wait_for_function("() => window.asked.at(-1).masked?.semantic === 1.5")
    assert (np.abs(pane(page)[inside] - painted[inside]) > 3).any()
    page.click("#viewer [data-action=clear]")
    page.wait_for_function("() => window.asked.at(-1).mask === null && window.asked.at(-1).masked === null")
    np.testing.assert_array_equal(pane(page), whole)
    assert "PSNR" in page.inner_text("#viewer .sv-score")


def test_the_server_renders_the_painted_region_as_it_was_shown(page):
    run(page, "v.steering.release = window.send; v.setSplit(0);")
    page.keyboard.press("b")
    page.click("#viewer [data-action=tint]")
    paint(page, (60, 60), (120, 60))
    shown = pane(page)
    page.wait_for_selector("#status >> text=painted: pixel 1, semantic 0", timeout=60_000)
    page.wait_for_function(f"() => {{ {VIEWER} return v.live === null; }}")
    assert np.abs(pane(page) - shown).max() <= 3
    page.wait_for_selector("#viewer .sv-score >> text=PSNR")
    page.click("#viewer [data-action=clear]")
    page.wait_for_function("() => !document.querySelector('#status').innerText.includes('painted')", timeout=60_000)
    page.wait_for_function(f"() => {{ {VIEWER} return v.live === null && v.masked === null; }}")
    run(page, "window.opened = v.items;")


def test_the_painted_region_is_seen_and_can_be_erased(page):
    page.keyboard.press("b")
    bare = pane(page)
    paint(page, (120, 90), (150, 90))
    page.mouse.move(*place(page, 120, 20))
    tinted = pane(page)
    red = tinted[85:95, 120:150] - bare[85:95, 120:150]
    assert (red[..., 0] - red[..., 1]).mean() > 15
    assert np.abs(tinted[:50] - bare[:50]).max() <= 3  # blended instead of the server's
    page.keyboard.press("e")
    page.wait_for_selector("#viewer [data-action=erase][aria-pressed=true]")
    for _ in range(6):
        page.keyboard.press("]")
    paint(page, (110, 90), (160, 90))
    page.wait_for_function("() => window.asked.length && window.asked.at(-1).mask === null")
    assert run(page, "return v.masked;") is None


def test_the_brush_by_keyboard_alone(page):
    page.keyboard.press("b")
    size = run(page, "return v.brush.size;")
    page.keyboard.press("[")
    assert run(page, "return v.brush.size;") < size
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#viewer .sv-ring:visible")
    page.keyboard.press("Enter")
    dab = run(page, "return v.brush.mask.box;")
    page.keyboard.down("Space")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.up("Space")
    line = run(page, "return v.brush.mask.box;")
    assert (line["left"], line["right"], line["top"]) == (dab["left"], dab["right"], dab["top"])
    assert line["bottom"] >= dab["bottom"] + 40
    page.wait_for_function("() => window.asked.some((each) => each.mask)")
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer .sv-region", state="hidden")


def test_one_finger_paints_and_two_move_the_picture(page):
    run(page, "v.setZoom(8);")
    page.keyboard.press("b")
    x, y = place(page, 110, 60)
    touch(page, [(x, y), (x + 20, y), (x + 40, y)])
    painted = run(page, "return [v.brush.mask.box, v.x];")
    assert painted[0]["right"] > painted[0]["left"]
    touch(page, [(x, y), (x + 30, y), (x + 60, y)], [(x, y + 90), (x + 30, y + 90), (x + 60, y + 90)])
    now = run(page, "return [v.brush.mask.box, v.x];")
    assert now[0] == painted[0]
    assert now[1] != painted[1]
    page.mouse.move(x, y)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(x - 15, y)
    page.mouse.up()
    page.keyboard.up("Space")
    page.mouse.down(button="middle")
    page.mouse.move(x - 25, y)
    page.mouse.up(button="middle")
    after = run(page, "return [v.brush.mask.box, v.x];")
    assert after[0] == painted[0]
    assert after[1] == pytest.approx(now[1] - 25, abs=2)


def test_a_mask_that_comes_with_the_picture_is_shown_and_measured(page):
    mask = np.zeros(SIZE, np.uint8)
    mask[:70] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    restore = """
      v.steering.guided = null;
      v.show({ items: [{ ...v.item, guide: { ...v.item.guide, masked: { pixel: 0.5, semantic: 0.25 }, mask: a } }], index: 0 });
    """
    run(page, restore, url)
    page.wait_for_function(f"() => {{ {VIEWER} return v.masked !== null; }}")
    assert run(page, "return [v.masked, v.brush.mask.box.bottom, v.live];") == [{"pixel": 0.5, "semantic": 0.25}, 70, None]
    measured = "v.item.guide.gram = Array.from({ length: a }, (_, i) => [i ? 0 : 0.01, 0, 0, 0, 0]); return v.steering.psnr();"
    page.wait_for_function(f"() => {{ {VIEWER} return v.steering.sameMask; }}")
    assert run(page, measured, 3) is None
    assert run(page, measured, 5) == pytest.approx(20)
    run(page, "v.set({ pixel: 0.3 });")
    page.wait_for_function("() => window.asked.at(-1)?.values.pixel === 0.3")
    assert page.evaluate("window.asked.at(-1).values") == {"pixel": 0.3, "semantic": 1}


def test_every_control_has_a_name_and_the_toolbar_fits_a_phone(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.keyboard.press("b")
    for mode in MODES:
        run(page, "v.act(a);", mode)
        page.wait_for_selector(f"#viewer [data-mode-button={mode}][aria-pressed=true]")
        settle(page)
        found = run(
            page,
            """
            const all = [...v.root.querySelectorAll("button, input, [tabindex]")];
            const shown = all.filter((each) => each.checkVisibility() && !each.closest(".sv-plane, .sv-picks"));
            return shown.map((each) => {
              const box = each.getBoundingClientRect(), stage = v.root.getBoundingClientRect();
              const name = each.getAttribute("aria-label") || (each.closest("label") ?? each).textContent.trim();
              const titled = each.title || each.closest("label")?.title || each.getAttribute("role");
              return { name, titled, fits: box.left >= stage.left && box.right <= stage.right, height: box.height };
            });
            """,
        )
        assert len(found) > 14
        assert [each for each in found if not (each["name"] and each["titled"] and each["height"] >= 24)] == []
        assert [each for each in found if not each["fits"] and "Divider" not in each["name"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_tab_reaches_the_modes_and_letters_work_beside_the_stage(page):
    page.focus("#viewer [data-action=split]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer .sv[data-mode=side]")
    page.keyboard.press("h")
    page.wait_for_selector("#viewer .sv[data-mode=heat]")
    page.focus("#viewer .sv-scales input[name=pixel]")
    page.keyboard.press("Home")
    assert run(page, "return v.scales.pixel;") == 0
    page.keyboard.press("d")
    page.wait_for_selector("#viewer .sv[data-mode=difference]")
