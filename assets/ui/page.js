// Page-wide behaviour: paste a picture anywhere, and a switch between the light and the dark look.

function addPictures(files) {
  const input = document.querySelector("#pictures input[type=file]");
  if (!input || !files.length) return false;
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

function listen() {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (addPictures(files)) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#look")) return;
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("srgui-look", dark ? "dark" : "light");
  });
  const look = localStorage.getItem("srgui-look");
  if (look) document.body.classList.toggle("dark", look === "dark");
}
