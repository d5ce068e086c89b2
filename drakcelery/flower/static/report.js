// What the sample did: how it ended, and a tab for each list. A list is asked for when its tab is opened.

import { analysisPath, make, say } from "./page.js";
import { ask } from "./report_ask.js";
import { openIndicators } from "./report_indicators.js";
import { openTable } from "./report_table.js";
import { openTimeline } from "./report_timeline.js";
import { openTree } from "./report_tree.js";

const get = (id) => document.getElementById(id);
const OPENERS = { processes: openTree, indicators: openIndicators, timeline: openTimeline };

let shown = null;

/** Show the report of an analysis once; a retry has another *version*. */
export async function showReport(uid, version) {
  if (shown === version) return;
  shown = version;
  get("report").hidden = false;
  say(get("report-trouble"), "Loading…");
  try {
    const overview = await ask(`${analysisPath(uid)}/report/overview`);
    say(get("report-trouble"), "");
    get("report-body").hidden = false;
    showOverview(overview);
    makeTabs(uid, overview);
  } catch (error) {
    get("report-body").hidden = true;
    say(get("report-trouble"), error.message);
  }
}

function showOverview(overview) {
  say(get("report-ending"), overview.ending);
  get("report-ending").classList.toggle("is-alert", !overview.is_whole);
  get("report-facts").replaceChildren(...overview.facts.flatMap((one) => [
    make("dt", "", one.name), make("dd", "", one.text),
  ]));
  const notes = overview.only_windows
    ? ["No process is known to be the sample's: what is listed is what Windows did.", ...overview.notes] : overview.notes;
  get("report-notes").replaceChildren(...notes.map((note) => make("li", "", note)));
}

function makeTabs(uid, overview) {
  const lists = overview.lists.filter((list) => list.all > 0);
  const tabs = lists.map((list) => makeTab(list));
  const panels = lists.map((list) => make("div", "report-panel", [], {
    role: "tabpanel", id: `panel-${list.name}`, "aria-labelledby": `tab-${list.name}`,
  }));
  const opened = new Set();

  function select(place, focus) {
    tabs.forEach((tab, other) => {
      tab.setAttribute("aria-selected", String(other === place));
      tab.tabIndex = other === place ? 0 : -1;
      panels[other].hidden = other !== place;
    });
    if (focus) tabs[place].focus();
    if (opened.has(place)) return;
    opened.add(place);
    const open = OPENERS[lists[place].name] ?? openTable;
    open(panels[place], `${analysisPath(uid)}/report/${lists[place].name}`, lists[place], { uid, onlyWindows: overview.only_windows });
  }

  tabs.forEach((tab, place) => {
    tab.onclick = () => {
      history.replaceState(null, "", `#${lists[place].name}`);
      select(place, false);
    };
    tab.onkeydown = (event) => {
      const last = tabs.length - 1;
      const to = { ArrowRight: place === last ? 0 : place + 1, ArrowLeft: place === 0 ? last : place - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select(to, true);
    };
  });
  get("report-tabs").replaceChildren(...tabs);
  get("report-panels").replaceChildren(...panels);
  const named = () => lists.findIndex((list) => `#${list.name}` === location.hash);
  window.onhashchange = () => {
    if (named() >= 0) select(named(), false);
  };
  if (lists.length) select(Math.max(0, named()), false);
}

function makeTab(list) {
  const count = make("span", "report-count", list.name === "timeline" ? "" : list.own.toLocaleString("en"));
  return make("button", "report-tab", [list.title, " ", count], {
    type: "button", role: "tab", id: `tab-${list.name}`, "aria-controls": `panel-${list.name}`,
  });
}
