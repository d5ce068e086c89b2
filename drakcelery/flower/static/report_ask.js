// Asking for a piece of a report, and what every list has: a search, filters, and pages.

import { make, say } from "./page.js";

const PATIENCE = 20000;
/** Milliseconds after the last key before something is searched for. */
const TYPING = 200;

/** The answer as it is; what Flower says instead is thrown as a sentence. */
async function answered(path, signal) {
  let answer;
  try {
    const late = AbortSignal.timeout(PATIENCE);
    answer = await fetch(path, { signal: signal ? AbortSignal.any([signal, late]) : late });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("Flower does not answer");
  }
  if (answer.ok) return answer;
  const isSentence = (answer.headers.get("Content-Type") ?? "").startsWith("text/plain");
  throw new Error((isSentence && await answer.text()) || `Flower answers ${answer.status}`);
}

export const ask = async (path, signal) => (await answered(path, signal)).json();
export const askText = async (path) => (await answered(path)).text();

/** *path* with what is asked for; what is empty is left out. */
export function address(path, query) {
  const some = Object.entries(query).filter(([, value]) => value !== "" && value !== false && value !== 0);
  return some.length ? `${path}?${new URLSearchParams(some.map(([name, value]) => [name, String(value)]))}` : path;
}

/** A list in *panel*: what is asked for is in `query`; `show` gets each answer. */
export class List {
  constructor(panel, path, list, { kinds = [], windows = false, show }) {
    this.path = path;
    this.show = show;
    this.query = { search: "", kind: "", windows: false, offset: 0 };
    this.form = make("form", "report-form", [], { role: "search", "aria-label": list.title });
    this.form.onsubmit = (event) => event.preventDefault();
    this.status = make("p", "report-status", "", { role: "status" });
    this.content = make("div", "report-content");
    this.previous = this.#turner("Previous page", -1);
    this.next = this.#turner("Next page", 1);
    this.pages = make("nav", "report-pages", [this.previous, this.next], { "aria-label": `Pages of ${list.title}` });
    this.#addSearch(list);
    if (kinds.length) this.addChoice("kind", "Only", [["", "everything"], ...kinds.map((kind) => [kind, kind])]);
    if (windows) this.#addWindows(list);
    panel.replaceChildren(this.form, this.status, this.content, this.pages);
  }

  #turner(text, by) {
    const button = make("button", "report-button", text, { type: "button" });
    button.onclick = () => {
      this.ask({ offset: Math.max(0, this.query.offset + by * this.size) });
      this.status.scrollIntoView({ block: "nearest" });
    };
    return button;
  }

  #addSearch(list) {
    const input = make("input", "form-control form-control-sm", [], { type: "search", maxlength: 200, autocomplete: "off", spellcheck: "false" });
    input.oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.ask({ search: input.value.trim(), offset: 0 }), TYPING);
    };
    this.form.append(make("label", "report-field report-search", [`Search ${list.title.toLowerCase()}`, input]));
  }

  addChoice(name, label, options) {
    const select = make("select", "form-select form-select-sm", options.map(([value, text]) => make("option", "", text, { value })));
    select.onchange = () => this.ask({ [name]: select.value, offset: 0 });
    this.form.append(make("label", "report-field", [label, select]));
  }

  #addWindows(list) {
    const box = make("input", "form-check-input", [], { type: "checkbox" });
    box.onchange = () => this.ask({ windows: box.checked, offset: 0 });
    const others = list.name === "timeline" ? "" : ` (${(list.all - list.own).toLocaleString("en")})`;
    this.form.append(make("label", "report-check", [box, `What only Windows did, too${others}`]));
  }

  /** Ask for what has changed; an older question is given up. */
  async ask(changes = {}) {
    Object.assign(this.query, changes);
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    this.content.setAttribute("aria-busy", "true");
    try {
      const page = await ask(address(this.path, this.query), asking.signal);
      this.query.offset = page.offset;
      this.size = page.size;
      this.show(page);
      this.#tell(page);
    } catch (error) {
      if (error.name === "AbortError") return;
      say(this.status, error.message);
    }
    this.content.removeAttribute("aria-busy");
  }

  #tell(page) {
    const number = (one) => one.toLocaleString("en");
    const last = page.offset + page.rows.length;
    const found = page.found === undefined || page.found === page.total || !this.query.search ? "" : `, ${number(page.found)} found`;
    say(this.status, page.total === 0 ? "Nothing." : `${number(page.offset + 1)} to ${number(last)} of ${number(page.total)}${found}`);
    this.pages.hidden = page.total <= page.size;
    this.previous.disabled = page.offset === 0;
    this.next.disabled = last >= page.total;
  }
}
