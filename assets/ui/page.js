// Page-wide behaviour: paste or drop a picture anywhere, and a switch between the light and the dark look.

const OWN_DROP_ZONES = "#pictures, #hr, #weights, #train-pictures, #adapter-file, #lab-picture, #lab-own, #lab-mask, #lab-drawn";
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Where pictures go that are dropped anywhere or pasted: into the form of the tab that is open.
function dropBox() {
  return [...document.querySelectorAll("#pictures, #train-pictures, #lab-picture")].find((box) => box.offsetParent);
}

// Put `files` in the place of the pictures that are there.
async function replacePictures(files) {
  const box = dropBox();
  const clear = () => box.querySelector("button[aria-label=Clear]");
  if (clear()) {
    clear().click();
    for (let wait = 0; wait < 50 && clear(); wait++) await pause(20);
  }
  const input = box.querySelector("input[type=file]");
  if (!input) return;
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function pictureFiles(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}

// Upscale again with other strengths, if a result is shown or on its way; of several wishes the last one counts.
let wishes = 0;
async function again() {
  const wish = ++wishes;
  await pause(300);
  const button = (id) => document.querySelector(`#${id}`), viewer = document.querySelector("#viewer .sv").viewer;
  const running = !button("cancel").disabled;
  if (wish !== wishes || !(running || viewer.comparing)) return;
  if (running) {
    // Only when the server has heard it: a cancel that comes after the start would cancel what was started.
    const heard = new Promise((resolve) => document.addEventListener("srgui-cancelled", resolve, { once: true }));
    button("cancel").click();
    await heard;
  }
  while (wish === wishes && button("start").disabled) await pause(50);
  if (wish === wishes) button("start").click();
}

// Examples are pictures without words: name their buttons after their files.
function nameExamples() {
  for (const button of document.querySelectorAll(".gallery-item:not([aria-label])")) {
    const file = button.querySelector("img")?.src.split("/").pop();
    if (file) button.setAttribute("aria-label", `Example: ${decodeURIComponent(file).replace(/\.\w+$/, "")}`);
  }
}

function listen() {
  new MutationObserver(nameExamples).observe(document.body, { childList: true, subtree: true });
  nameExamples();
  document.addEventListener("change", (event) => {
    if (event.target.closest("#strengths")) again();
  });
  document.addEventListener("paste", (event) => {
    const files = pictureFiles(event.clipboardData);
    if (!files.length || !dropBox()) return;
    event.preventDefault();
    replacePictures(files);
  });
  document.addEventListener("dragover", (event) => {
    if (!event.target.closest(OWN_DROP_ZONES) && event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (event.target.closest(OWN_DROP_ZONES) || !dropBox()) return;
    const files = pictureFiles(event.dataTransfer);
    if (!files.length) return;
    event.preventDefault();
    replacePictures(files);
  });
  document.addEventListener("click", (event) => {
    const narrow = window.matchMedia("(max-width: 860px)").matches;
    if (narrow && event.target.closest("#start")) document.querySelector("#viewer").scrollIntoView({ behavior: "smooth" });
    if (!event.target.closest("#look")) return;
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("srgui-look", dark ? "dark" : "light");
  });
  const look = localStorage.getItem("srgui-look");
  if (look) document.body.classList.toggle("dark", look === "dark");
  document.body.dataset.srgui = "ready";
}
