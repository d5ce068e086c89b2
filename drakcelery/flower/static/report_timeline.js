// What was first seen when: bars for the parts of the run, and the moments as a table.

import { make, sync } from "./page.js";
import { List } from "./report_ask.js";
import { makeTable } from "./report_table.js";

export function openTimeline(panel, path, list, { onlyWindows }) {
  const { table, show } = makeTable("Timeline of the run");
  const bars = make("div", "report-bars", [], { role: "img" });
  const ends = make("p", "report-ends", [make("span"), make("span")], { "aria-hidden": "true" });
  const opened = new List(panel, path, list, { kinds: list.kinds, windows: !onlyWindows, show: showAll });
  for (const [name, label] of [["since", "From second"], ["until", "to second"]]) {
    const input = make("input", "form-control form-control-sm report-number", [], { type: "number", step: "any" });
    input.onchange = () => opened.ask({ [name]: input.value, offset: 0 });
    opened.form.append(make("label", "report-field", [label, input]));
  }

  function showAll(page) {
    const most = Math.max(1, ...page.bars);
    const length = (page.last - page.first) / (page.bars.length || 1);
    const busiest = page.bars.indexOf(most);
    bars.hidden = ends.hidden = page.rows.length === 0;
    bars.setAttribute("aria-label", `Events from second ${page.first.toFixed(1)} to ${page.last.toFixed(1)}; most, ${most}, around second ${(page.first + (busiest + 0.5) * length).toFixed(1)}`);
    sync(bars, page.bars.map((count, place) => ({ count, place })), (one) => String(one.place), () => make("span"), (bar, one) => {
      bar.style.height = one.count ? `${Math.max(4, (100 * one.count) / most)}%` : "0";
      bar.title = `+${(page.first + one.place * length).toFixed(1)} s: ${one.count}`;
    });
    ends.firstChild.textContent = `+${page.first.toFixed(1)} s`;
    ends.lastChild.textContent = `+${page.last.toFixed(1)} s`;
    show(page);
  }

  opened.content.append(bars, ends, table);
  opened.ask();
}
