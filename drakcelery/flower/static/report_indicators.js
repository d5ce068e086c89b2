// Indicators: shown defanged; each button says which form it copies.

import { analysisPath, make, say } from "./page.js";
import { address, askText, List } from "./report_ask.js";
import { makeTable } from "./report_table.js";

/** Put *text* on the clipboard, also where Flower is reached without TLS and browsers have no such thing. */
async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = make("textarea", "visually-hidden", [], { "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  if (!done) throw new Error("The browser does not let this page copy");
}

function copying(text, what, tell, label = text) {
  const button = make("button", "report-button", text, { type: "button", "aria-label": label });
  button.onclick = async () => {
    try {
      const value = await what();
      await copy(value);
      const lines = value.split("\n").filter(Boolean).length;
      tell(lines === 1 ? "Copied." : `Copied ${lines.toLocaleString("en")} lines.`);
    } catch (error) {
      tell(error.message);
    }
  };
  return button;
}

export function openIndicators(panel, path, list, { uid }) {
  let opened = null;
  const said = make("span", "report-said", "", { role: "status" });
  const tell = (text) => say(said, text);
  const { table, show } = makeTable(list.title, (row) => {
    const shown = row.cells[1];
    if (row.seen === shown) return copying("Copy", () => shown, tell, `Copy ${shown}`);
    return [
      copying("Defanged", () => shown, tell, `Defanged: copy ${shown}`),
      copying("As seen", () => row.seen, tell, `As seen: copy ${shown}`),
    ];
  });
  opened = new List(panel, path, list, { kinds: list.kinds, show });
  const all = (form) => () => askText(address(`${analysisPath(uid)}/indicators`, {
    form, search: opened.query.search, kind: opened.query.kind,
  }));
  const buttons = make("div", "report-copy", [
    copying("Copy all, defanged", all("defanged"), tell), copying("Copy all, as seen", all("seen"), tell), said,
  ]);
  opened.content.append(buttons, table);
  opened.ask();
}
