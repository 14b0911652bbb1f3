// A picture in which one sample is chosen: with the pointer, or with the arrow keys.

const REST = 80; // milliseconds that the point stays where it is before the server is asked
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `props.value`: {src, size: [width, height], at: [column, row]}, or null for none. `select` carries {at}.
export function spot(element, props, watch, trigger) {
  const frame = element.querySelector(".spot"), image = frame.querySelector("img"), cross = frame.querySelector("i");
  let size = [1, 1], at = [0, 0], rest;

  function place() {
    [cross.style.left, cross.style.top] = at.map((place, axis) => `${((place + 0.5) / size[axis]) * 100}%`);
  }

  function show() {
    frame.hidden = !props.value;
    if (!props.value) return;
    ({ size, at } = props.value);
    image.src = props.value.src;
    place();
  }

  function choose(...wanted) {
    const [column, row] = wanted.map((place, axis) => Math.min(size[axis] - 1, Math.max(0, Math.floor(place))));
    if (column === at[0] && row === at[1]) return;
    at = [column, row];
    place();
    clearTimeout(rest);
    rest = setTimeout(() => trigger("select", { value: { at } }), REST);
  }

  function point(event) {
    const box = image.getBoundingClientRect();
    choose(((event.clientX - box.left) / box.width) * size[0], ((event.clientY - box.top) / box.height) * size[1]);
  }

  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    point(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) point(event);
  });
  frame.addEventListener("keydown", (event) => {
    const step = STEPS[event.key], far = event.shiftKey ? 10 : 1;
    if (!step) return;
    event.preventDefault();
    choose(at[0] + far * step[0], at[1] + far * step[1]);
  });
  watch("value", show);
  show();
}
