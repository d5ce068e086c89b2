// The Watching page: a curve, and tables. Names of qualities come from tasks: they are put in as text.

import { follow, make, say, sync, watchingPath } from "./page.js";

const page = document.getElementById("watching");
const get = (id) => document.getElementById(id);
const dash = "—";
const PAUSE = 30000;
/** How many times the bound the picture shows. */
const TIMES = 4;
/** So many runs before it warns, as the alert DrakceleryQuietStopsLoseTooMuch. */
const ENOUGH = 50;
const HIGH = 260;
const [NARROWEST, WIDEST] = [240, 960];
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 12, 12, 40];

let report = null;

function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(Math.round(value * 10) / 10 >= 10 ? 0 : 1)} %`;
}

const hours = (seconds) => `${(seconds / 3600).toFixed(1)} h`;
const key = (curve) => (curve.profile === null ? "" : `${curve.profile}/${curve.quality}`);
const name = (curve) => (curve.profile === null ? "All together" : `${curve.profile}, ${curve.quality}`);
const seconds = (rules) => `${rules.min_seconds}, ${rules.quiet_seconds}`;

function svg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [one, value] of Object.entries(attributes)) element.setAttribute(one, String(value));
  element.append(text);
  return element;
}

// The picture

/** As wide as there is room, so that its letters keep their size. */
function chart(curve, bound, room) {
  const wide = Math.max(NARROWEST, Math.min(WIDEST, room));
  const top = TIMES * bound;
  const x = (saved) => LEFT + saved * (wide - LEFT - RIGHT);
  const y = (lost) => HIGH - BOTTOM - (Math.min(lost, top) / top) * (HIGH - TOP - BOTTOM);
  const best = curve.recommended;
  const told = best ? `; recommended: ${percent(best.saved)} saved, ${percent(best.lost)} lost` : "";
  const picture = svg("svg", {
    viewBox: `0 0 ${wide} ${HIGH}`,
    width: wide,
    height: HIGH,
    role: "img",
    "aria-label": `${name(curve)}: slot time saved from 0 to 100 percent, against facts lost up to ${percent(top)}${told}`,
  });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    picture.append(
      svg("line", { class: "watching-grid", x1: x(share), x2: x(share), y1: TOP, y2: HIGH - BOTTOM }),
      svg("text", { class: "watching-text", x: x(share), y: HIGH - BOTTOM + 16, "text-anchor": share === 1 ? "end" : "middle" }, `${100 * share} %`),
    );
  }
  for (const share of [0, bound, top / 2, top]) {
    const line = share === bound ? "watching-bound" : "watching-grid";
    picture.append(
      svg("line", { class: line, x1: LEFT, x2: wide - RIGHT, y1: y(share), y2: y(share) }),
      svg("text", { class: "watching-text", x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share)),
    );
  }
  picture.append(
    svg("text", { class: "watching-text", x: (LEFT + wide) / 2, y: HIGH - 6, "text-anchor": "middle" }, "slot time saved"),
    svg("text", { class: "watching-text", x: LEFT + 6, y: TOP + 12 }, "facts lost"),
  );
  const shown = curve.trials.filter((one) => one.lost <= top);
  picture.append(svg("polyline", { class: "watching-line", points: shown.map((one) => `${x(one.saved)},${y(one.lost)}`).join(" ") }));
  const marks = [...shown.map((one) => [one, "best", 3.5]), [curve.current, "current", 6.5], [best, "recommended", 6.5]];
  for (const [one, kind, size] of marks) if (one) picture.append(mark(one, kind, size, x(one.saved), y(one.lost)));
  return picture;
}

function mark(one, kind, size, x, y) {
  const shape = kind === "current"
    ? svg("path", { class: `watching-${kind}`, d: `M${x - size},${y} l${size},${-size} l${size},${size} l${-size},${size} z` })
    : svg("circle", { class: `watching-${kind}`, cx: x, cy: y, r: size });
  shape.append(svg("title", {}, `${seconds(one.rules)}: ${percent(one.saved)} saved, ${percent(one.lost)} lost`));
  return shape;
}

// The tables

const cells = (texts, secondary = []) =>
  texts.map((text, at) => make("td", `text-end${secondary.includes(at) ? " broker-secondary-column" : ""}`, text));

function fill(body, items, head, texts, secondary) {
  sync(body, items, (one) => head(one), (one) => make("tr", "", make("th", "", head(one), { scope: "row" })), (line, one) => {
    line.replaceChildren(line.firstChild, ...cells(texts(one), secondary));
  });
}

function trialTexts(one, runs) {
  return [percent(one.saved), percent(one.lost), percent(one.lost_at_most), percent(one.losing / runs)];
}

function curveTexts(curve) {
  const best = curve.recommended;
  const own = best ? [seconds(best.rules), ...trialTexts(best, curve.runs)] : Array(5).fill(dash);
  return [String(curve.runs), ...own, curve.stopped ? `${curve.stopped} (${hours(curve.saved_seconds)})` : "0"];
}

// The page

function showCurve() {
  const chosen = get("choice").value;
  const curve = [report.all, ...report.curves].find((one) => key(one) === chosen) ?? report.all;
  const bound = 1 - report.keep;
  say(get("says"), `${curve.says}.`);
  const over = curve.current !== null && report.mode === "active" && curve.runs >= ENOUGH && curve.current.lost > bound;
  get("over").hidden = !over;
  if (over) say(get("over"), `The settings in use lose ${percent(curve.current.lost)} of the facts: more than the bound of ${percent(bound)}`);
  get("chart").replaceChildren(chart(curve, bound, get("chart").clientWidth));
  get("paste").hidden = curve.recommended === null;
  if (curve.recommended) {
    const { min_seconds, quiet_seconds } = curve.recommended.rules;
    say(get("paste-text"), `[watch]\nmin_seconds = ${min_seconds}\nquiet_seconds = ${quiet_seconds}\n`);
  }
  fill(get("trials"), curve.trials, (one) => seconds(one.rules), (one) => trialTexts(one, curve.runs));
}

function showChoice(curves) {
  const choice = get("choice");
  sync(choice, curves, key, (curve) => make("option", "", name(curve), { value: key(curve) }), () => {});
}

function show(given) {
  report = given;
  const { all, curves } = report;
  const some = curves.length > 0;
  get("nothing").hidden = some;
  get("something").hidden = !some;
  say(get("total-mode"), report.mode);
  say(get("total-runs"), String(all.runs));
  say(get("total-saved"), all.recommended ? percent(all.recommended.saved) : dash);
  say(get("total-stopped"), hours(all.saved_seconds));
  if (!some) return PAUSE;
  showChoice([all, ...curves]);
  showCurve();
  fill(get("curves"), curves.length > 1 ? [...curves, all] : curves, name, curveTexts, [4, 5, 6]);
  return PAUSE;
}

get("choice").addEventListener("change", showCurve);
window.addEventListener("resize", () => report?.curves.length && showCurve());
follow(page, watchingPath(), show);
