// The log while the analysis runs: asked for only while somebody has it open.

import { analysisPath, make, moment, say } from "./page.js";
import { address, ask } from "./report_ask.js";

const PAUSE = 2000;
const MOST = 500;
const get = (id) => document.getElementById(id);
let next = 0;
let running = false;
let asking = false;

/** Show the log of an analysis that is under way; what was shown stays when it is over. */
export function followLog(uid, isOver) {
  const box = get("live");
  running = !isOver;
  if (isOver) {
    box.hidden = next === 0;
    say(get("live-status"), "It is over. Unless it was cancelled, drakrun.log is among the artifacts.");
    return;
  }
  box.hidden = false;
  box.ontoggle = () => goOn(uid, box);
  goOn(uid, box);
}

/** Ask again and again, unless that is done already, until the box is closed or the analysis over. */
async function goOn(uid, box) {
  if (asking) return;
  asking = true;
  while (box.open && running) {
    if (!document.hidden) await more(uid);
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  asking = false;
}

async function more(uid) {
  try {
    const answer = await ask(address(`${analysisPath(uid)}/live`, { after: next }));
    say(get("live-status"), answer.next === 0 ? "Nothing yet." : `${answer.next.toLocaleString("en")} lines`);
    if (answer.next < next) get("live-lines").replaceChildren();
    next = answer.next;
    add(answer.lines);
  } catch (error) {
    if (running) say(get("live-status"), error.message);
  }
}

function add(lines) {
  const list = get("live-lines");
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  list.append(...lines.map((line) => make("p", "live-line", [
    make("span", "live-when", line.at === null ? "" : moment(line.at).slice(11)),
    make("span", "live-when", line.stage),
    make("strong", "live-action", line.action),
    make("span", "", line.more),
  ], { "data-level": line.level })));
  while (list.children.length > MOST) list.firstChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}
