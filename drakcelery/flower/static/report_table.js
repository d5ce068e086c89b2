// A list as a table; on a narrow screen each entry is a card. Roles are written out, since cards are no table to CSS.

import { make, sync } from "./page.js";
import { List } from "./report_ask.js";

/** A table for the pages of a list; *extra* makes what stands in a last column. */
export function makeTable(title, extra = null) {
  const head = make("tr", "", [], { role: "row" });
  const body = make("tbody", "", [], { role: "rowgroup" });
  const table = make("table", "report-table", [
    make("caption", "visually-hidden", title), make("thead", "", head, { role: "rowgroup" }), body,
  ], { role: "table" });

  function makeRow(row, columns) {
    const cells = row.cells.map((text, place) => {
      const marks = place === row.markedCell ? row.marks.map((mark) => make("span", "report-mark", mark)) : [];
      const cell = make("td", text === "" ? "is-empty" : "", [make("span", "report-value", text), ...marks], { role: "cell" });
      cell.dataset.label = columns[place];
      return cell;
    });
    if (extra) cells.push(make("td", "report-extra", extra(row), { role: "cell" }));
    return make("tr", row.own ? "" : "is-windows", cells, { role: "row" });
  }

  function show(page) {
    const columns = extra ? [...page.columns, "Copy"] : page.columns;
    head.replaceChildren(...columns.map((name) => make("th", "", name, { role: "columnheader", scope: "col" })));
    const marked = { Kind: 1, When: 2 }[page.columns[0]] ?? 0;
    const rows = page.rows.map((row) => ({ ...row, markedCell: marked }));
    sync(body, rows, (row) => row.key, (row) => makeRow(row, page.columns), () => {});
    table.hidden = rows.length === 0;
  }

  return { table, show };
}

export function openTable(panel, path, list, { onlyWindows }) {
  const { table, show } = makeTable(list.title);
  const opened = new List(panel, path, list, {
    kinds: list.kinds, windows: !onlyWindows && list.all > list.own, show,
  });
  opened.content.append(table);
  opened.ask();
}
