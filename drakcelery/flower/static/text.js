// A text of the bucket, a piece at a time, in a dialog. What is shown is text, and never markup.

import { analysisPath, make, say, size } from "./page.js";
import { address, ask } from "./report_ask.js";

const get = (id) => document.getElementById(id);
const isText = (name) => /\.(log|json|txt)$/.test(name);

/** A button that opens the artifact *name*, or nothing if it is no text. */
export function readButton(uid, name) {
  if (!isText(name)) return "";
  const button = make("button", "report-button", "Read", { type: "button", "aria-label": `Read ${name}` });
  button.onclick = () => read(uid, name);
  return button;
}

let shown = null;
let asking = null;

function read(uid, name) {
  const path = `${analysisPath(uid)}/text/${encodeURIComponent(name)}`;
  const dialog = get("text");
  say(get("text-title"), name);
  get("text-first").onclick = () => show(path, {});
  get("text-next").onclick = () => show(path, { start: shown.end });
  get("text-previous").onclick = () => show(path, { before: shown.start });
  get("text-last").onclick = () => show(path, { before: shown.size });
  get("text-close").onclick = () => dialog.close();
  get("text-lines").replaceChildren();
  dialog.showModal();
  show(path, {});
}

/** Ask for a piece and show it; an older question, maybe for another text, is given up. */
async function show(path, where) {
  asking?.abort();
  const { signal } = asking = new AbortController();
  say(get("text-status"), "Loading…");
  try {
    shown = await ask(address(path, where), signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(get("text-status"), error.message);
    return;
  }
  const lines = get("text-lines");
  lines.replaceChildren(...shown.lines.map((line) => make("span", "text-line", `${line}\n`)));
  lines.scrollTop = 0;
  const part = shown.begins_within || shown.ends_within ? "; a line of it is longer than what is shown" : "";
  const number = (one) => one.toLocaleString("en");
  say(get("text-status"), shown.size === 0 ? "It is empty."
    : `Bytes ${number(shown.start)} to ${number(shown.end)} of ${number(shown.size)} (${size(shown.size)})${part}`);
  get("text-first").disabled = get("text-previous").disabled = shown.start === 0;
  get("text-last").disabled = get("text-next").disabled = shown.end >= shown.size;
}
