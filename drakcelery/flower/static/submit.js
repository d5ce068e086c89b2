// Samples that are dropped onto the Fleet page, or chosen: one request each, one after the other.

import { analysisPath, fleetPath, link, make, say, size, xsrfToken } from "./page.js";

const section = document.getElementById("submit");
const list = document.getElementById("submit-list");
const files = document.getElementById("submit-files");
const largest = Number(section.dataset.largest);
let last = Promise.resolve();
let inside = 0;

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

function highlight(on) {
  section.classList.toggle("is-over", on);
}

/** What became of one file, in its line. */
function told(label, content, isRefused) {
  return make("li", isRefused ? "is-refused" : "", [make("span", "fleet-submitted-name", label), " ", content].flat());
}

async function answerOf(file) {
  if (file.size > largest) {
    return [{ label: file.name, reason: `has ${size(file.size)}; at most ${size(largest)} are accepted ([drakcelery] max_sample_size)` }];
  }
  const password = document.getElementById("submit-password").value;
  const headers = { "X-XSRFToken": xsrfToken(), "Content-Type": "application/octet-stream", Accept: "application/json" };
  if (password) headers["X-Zip-Password"] = encodeURIComponent(password);
  try {
    const path = `${fleetPath()}/submit?${new URLSearchParams({ name: file.name })}`;
    const answer = await fetch(path, { method: "POST", headers, body: file });
    const said = await answer.json();
    return answer.ok ? said.files : [{ label: file.name, reason: said.message }];
  } catch {
    return [{ label: file.name, reason: "could not be sent: it is a folder, or Flower does not answer" }];
  }
}

async function submit(file, line) {
  say(line.lastChild, "is being handed in…");
  const outcomes = await answerOf(file);
  const lines = outcomes.map((one) => one.uid
    ? told(one.label, ["is analysed: ", link(analysisPath(one.uid), one.uid)], false)
    : told(one.label, one.reason, true));
  line.replaceWith(...lines);
  const refused = outcomes.filter((one) => !one.uid).length;
  say(document.getElementById("submit-status"), `${file.name}: ${outcomes.length - refused} handed in, ${refused} refused`);
}

function take(chosen) {
  for (const file of chosen) {
    const line = told(file.name, make("span", "", "waits"), false);
    list.prepend(line);
    last = last.then(() => submit(file, line));
  }
}

files.addEventListener("change", () => {
  take([...files.files]);
  files.value = "";
});
document.addEventListener("dragenter", (event) => {
  if (holdsFiles(event)) highlight(++inside > 0);
});
document.addEventListener("dragleave", (event) => {
  if (holdsFiles(event)) highlight(--inside > 0);
});
document.addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  inside = 0;
  highlight(false);
  take([...event.dataTransfer.files]);
});
