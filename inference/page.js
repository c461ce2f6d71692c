// The drop zone of the web page. Gradio runs this file when the zone is shown, with `element`, `props` and `trigger`.
// The browser keeps the files, so that they can be classified again with other class names.
const input = element.querySelector("input"), again = element.querySelector("button"), count = element.querySelector("output");
let held = null, latest = 0;

const encoded = (file) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => resolve(null);
  reader.readAsDataURL(file);
});

function send() {
  if (held) trigger("upload", held);
}

async function take(list) {
  const all = [...list], files = [], own = ++latest;
  if (!all.length) return;
  const number = all.length === 1 ? "1 file" : `${all.length} files`;
  let total = 0;
  count.textContent = `reading ${number}`;
  for (const file of all.slice(0, props.max_images)) {
    const fits = file.size && file.size <= props.max_bytes && total + file.size <= props.max_total;
    if (fits) total += file.size;
    files.push({name: file.name, size: file.size, data: fits ? await encoded(file) : null});
  }
  if (own !== latest) return;  // the user has dropped other files in the meantime
  held = {files, more: all.length - files.length};
  count.textContent = number;
  again.disabled = false;
  send();
}

input.addEventListener("change", () => { take(input.files); input.value = ""; });
again.addEventListener("click", send);
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => {  // anywhere on the page
    if (!event.dataTransfer || ![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    if (name === "drop") take(event.dataTransfer.files);
  });
}
