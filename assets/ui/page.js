// Page-wide behaviour: paste or drop a picture anywhere, and a switch between the light and the dark look.

const OWN_DROP_ZONES = "#pictures, #hr, #weights";

function fileInput() {
  return document.querySelector("#pictures input[type=file]");
}

// Put `files` in the place of the pictures that are there.
async function replacePictures(files) {
  const clear = document.querySelector("#pictures button[aria-label=Clear]");
  if (clear) {
    clear.click();
    for (let wait = 0; wait < 50 && document.querySelector("#pictures button[aria-label=Clear]"); wait++)
      await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const input = fileInput();
  if (!input) return;
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function pictureFiles(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}

function listen() {
  document.addEventListener("paste", (event) => {
    const files = pictureFiles(event.clipboardData);
    if (!files.length || !fileInput()) return;
    event.preventDefault();
    replacePictures(files);
  });
  document.addEventListener("dragover", (event) => {
    if (!event.target.closest(OWN_DROP_ZONES) && event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (event.target.closest(OWN_DROP_ZONES) || !fileInput()) return;
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
