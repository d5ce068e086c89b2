// The search of the Fleet page: what is found stands in the place of the newest analyses.

import { fleetPath, say } from "./page.js";

const get = (id) => document.getElementById(id);

/** The search; *showRows* shows a page of what was found. */
export function makeSearch(showRows) {
  const form = get("find");
  let pages = null;
  let asked = 0;

  function wanted() {
    return new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()).map(([name, value]) => [name, value.trim()]));
  }

  async function ask() {
    const mine = ++asked;
    const parameters = wanted();
    const after = pages.at(-1);
    if (after) parameters.set("after", after);
    try {
      const answer = await fetch(`${fleetPath()}/find?${parameters}`, { signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(await answer.text());
      const view = await answer.json();
      if (mine !== asked || pages === null) return;
      tell("");
      showRows(view);
      const { length } = view.analyses;
      get("analyses-empty").hidden = true;
      get("find-empty").hidden = length > 0 || view.next !== null;
      get("find-pages").hidden = pages.length === 1 && view.next === null;
      get("find-newer").disabled = pages.length === 1;
      get("find-older").disabled = view.next === null;
      get("find-older").dataset.next = view.next ?? "";
    } catch (error) {
      if (mine === asked) tell(error instanceof TypeError || error.name === "TimeoutError" ? "Flower does not answer" : error.message);
    }
  }

  function tell(trouble) {
    get("find-trouble").hidden = trouble === "";
    say(get("find-trouble"), trouble);
  }

  /** Keep what is searched for in the address: it can be sent to somebody, and is there after a reload. */
  function remember(parameters) {
    history.replaceState(null, "", `${location.pathname}${parameters.size ? `?${parameters}` : ""}`);
  }

  function begin() {
    pages = [""];
    ask();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!wanted().size) return form.reset();
    remember(wanted());
    begin();
  });
  form.addEventListener("reset", () => {
    pages = null;
    remember(new URLSearchParams());
    tell("");
    get("find-empty").hidden = true;
    get("find-pages").hidden = true;
  });
  get("find-older").addEventListener("click", () => {
    pages.push(get("find-older").dataset.next);
    ask();
  });
  get("find-newer").addEventListener("click", () => {
    pages.pop();
    ask();
  });
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (!field?.matches?.("input, select")) continue;
    field.value = value;
    if (value && get("find-more").contains(field)) get("find-more").open = true;
  }
  if (wanted().size) begin();
  return { isOn: () => pages !== null };
}
