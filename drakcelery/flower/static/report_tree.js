// The process tree, by the keys of ARIA's tree pattern; what is below a folded process is not there at all.

import { make, sync } from "./page.js";
import { List } from "./report_ask.js";

/** Levels that are indented; deeper ones are only told. */
const DEEPEST = 8;

export function openTree(panel, path, list, { onlyWindows }) {
  let all = false;
  const turned = new Set();
  const tree = make("div", "report-tree", [], { role: "tree", "aria-label": list.title });
  const above = make("p", "report-path");

  const opened = new List(panel, path, list, { windows: !onlyWindows && list.all > list.own, show });
  const fold = (folded) => () => {
    all = folded;
    turned.clear();
    opened.ask({ folded: all, turned: "", offset: 0 });
  };
  for (const [text, folded] of [["Fold all", true], ["Unfold all", false]]) {
    const button = make("button", "report-button", text, { type: "button" });
    button.onclick = fold(folded);
    opened.form.append(button);
  }
  opened.content.append(above, tree);

  function turn(row) {
    if (turned.has(row.key)) turned.delete(row.key);
    else turned.add(row.key);
    opened.ask({ folded: all, turned: [...turned].join(",") });
  }

  function makeItem(row) {
    const item = make("div", "report-process", [
      make("span", "report-fold", "", { "aria-hidden": "true" }),
      make("span", "report-name", row.name),
      ...row.marks.map((mark) => make("span", "report-mark", mark)),
      ...row.facts.map((fact) => make("span", "report-fact", fact)),
      make("span", "report-command", row.command),
    ], { role: "treeitem", tabindex: "-1" });
    item.querySelector(".report-fold").onclick = () => turn(item.row);
    item.onkeydown = (event) => key(event, item);
    item.onfocus = () => rove(item);
    return item;
  }

  function update(item, row) {
    item.row = row;
    item.className = `report-process level-${Math.min(row.level, DEEPEST)}${row.own ? "" : " is-windows"}${row.found ? "" : " is-way"}`;
    item.dataset.deep = row.level > DEEPEST ? `level ${row.level}` : "";
    item.setAttribute("aria-level", row.level);
    item.setAttribute("aria-posinset", row.position);
    item.setAttribute("aria-setsize", row.siblings);
    if (row.children) item.setAttribute("aria-expanded", String(!row.folded));
    else item.removeAttribute("aria-expanded");
  }

  /** Only one item is reached by Tab: the one that had the focus last. */
  function rove(item) {
    for (const other of tree.children) other.tabIndex = other === item ? 0 : -1;
  }

  function key(event, item) {
    const items = [...tree.children];
    const place = items.indexOf(item);
    const isOpen = item.row.children > 0 && !item.row.folded;
    const steps = {
      ArrowDown: () => items[place + 1],
      ArrowUp: () => items[place - 1],
      Home: () => items[0],
      End: () => items.at(-1),
      ArrowRight: () => (isOpen ? items[place + 1] : item.row.children ? turn(item.row) : null),
      ArrowLeft: () => (isOpen ? turn(item.row) : items.slice(0, place).findLast((one) => one.row.level < item.row.level)),
      Enter: () => (item.row.children ? turn(item.row) : null),
    };
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    step()?.focus();
  }

  function show(page) {
    above.hidden = page.path.length === 0;
    above.textContent = `below ${page.path.join(" › ")}`;
    sync(tree, page.rows, (row) => String(row.key), makeItem, update);
    const focused = tree.contains(document.activeElement) ? document.activeElement : tree.firstElementChild;
    if (focused) rove(focused);
    tree.hidden = page.rows.length === 0;
  }

  opened.ask();
}
