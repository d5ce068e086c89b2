import { makeSearch } from "./find.js";
import {
  analysisPath, confirmed, duration, expected, fleetPath, follow, hostPath, link, make, moment, say, showBar, showState,
  sync, workerPath,
} from "./page.js";

const page = document.getElementById("fleet");
const mayAct = page.dataset.mayAct === "1";
const get = (id) => document.getElementById(id);
const part = (element, name) => element.querySelector(`[data-part="${name}"]`);
const makePart = (tag, name, classes = "") => make(tag, classes, [], { "data-part": name });
const OUT = ["quarantined", "checking", "draining", "drained", "halted"];
const dash = "—";

// Hosts and their slots

function makeHost(host) {
  const button = makePart("button", "drain", "btn btn-sm btn-outline-secondary");
  button.type = "button";
  button.hidden = true;
  const name = make("h3", "fleet-host-name", link(workerPath(`vm@${host.host}`), host.host));
  const head = make("header", "fleet-host-head", [
    make("div", "", [name, makePart("p", "engine", "fleet-muted")]),
    make("div", "fleet-host-side", [makePart("span", "presence"), button]),
  ]);
  return make("article", "fleet-host", [head, makePart("div", "slots", "fleet-slots")], { "data-host": host.host });
}

function showHost(card, host, now) {
  const presence = part(card, "presence");
  const closed = host.draining ? "Draining" : host.halted ? "Halted" : null;
  say(presence, host.online ? closed ?? "Online" : `Offline ${duration(now - host.seen)}`);
  presence.className = `badge ${host.online ? (closed ? "text-bg-warning" : "bg-success") : "bg-secondary"}`;
  const halted = host.halted ? ` · takes nothing: ${host.halted}` : "";
  const waiting = host.waiting ? ` · ${host.waiting} waiting for this host` : "";
  say(part(card, "engine"), `${host.engine ?? host.profiles.join(", ")}${waiting}${halted}`);
  card.classList.toggle("is-offline", !host.online);
  const button = part(card, "drain");
  button.hidden = !mayAct || !host.online;
  say(button, host.draining ? "Undrain" : "Drain");
  button.onclick = () => askDrain(host);
  sync(part(card, "slots"), host.slots, (slot) => slot.name, makeSlot, (tile, slot) => showSlot(tile, slot, now));
}

function askDrain(host) {
  const back = host.draining;
  confirmed({
    title: `${back ? "Undrain" : "Drain"} ${host.host}?`,
    text: back
      ? "Its slots take samples again."
      : "It finishes what runs there, and takes nothing new until it is undrained. This outlasts a restart.",
    what: back ? "Undrain" : "Drain",
    path: hostPath(host.host, back ? "undrain" : "drain"),
  });
}

function makeSlot(slot) {
  const head = make("div", "fleet-slot-head", [make("strong", "", slot.name), makePart("span", "state", "fleet-slot-state")]);
  const progress = make("div", "fleet-progress", makePart("span", "progress"));
  return make("div", "fleet-slot", [
    head,
    makePart("p", "profile", "fleet-muted"),
    makePart("a", "sample", "fleet-slot-sample"),
    progress,
    makePart("p", "time", "fleet-slot-time"),
    makePart("p", "health", "fleet-slot-health"),
    makePart("p", "canary", "fleet-slot-health"),
    makePart("p", "next", "fleet-muted fleet-slot-next"),
  ]);
}

function showSlot(tile, slot, now) {
  tile.dataset.state = slot.state;
  say(part(tile, "state"), slot.state);
  say(part(tile, "profile"), slot.profile);
  const sample = part(tile, "sample");
  sample.hidden = slot.uid === null;
  if (slot.uid !== null) {
    sample.href = analysisPath(slot.uid);
    sample.title = slot.uid;
    say(sample, slot.sample ?? slot.uid);
  }
  const runs = slot.running_since !== null && slot.timeout !== null && slot.uid !== null;
  const elapsed = runs ? now - slot.running_since : now - slot.since;
  part(tile, "progress").style.width = runs ? `${Math.min(100, (100 * elapsed) / slot.timeout)}%` : "0";
  part(tile, "progress").parentElement.hidden = !runs;
  const attempt = slot.attempt > 1 ? ` · attempt ${slot.attempt}` : "";
  const by = slot.closed_by ? ` · by ${slot.closed_by}` : "";
  say(part(tile, "time"), (runs ? `${duration(elapsed)} / ${duration(slot.timeout)}` : `for ${duration(elapsed)}`) + attempt + by);
  showHealth(part(tile, "health"), slot.reasons.length ? `score ${slot.score.toFixed(2)}: ${slot.reasons.join("; ")}` : "");
  part(tile, "health").classList.toggle("is-unwell", slot.is_unwell);
  showHealth(part(tile, "canary"), slot.canary && slot.canary !== "good" ? `canary: ${slot.canary}` : "");
  part(tile, "canary").classList.toggle("is-unwell", slot.canary !== "due");
  showNext(part(tile, "next"), slot.next, now);
}

/** A line that may be longer than there is room for. */
function showHealth(line, text) {
  line.hidden = text === "";
  line.title = text;
  say(line, text);
}

function showNext(line, next, now) {
  line.hidden = next === null;
  if (next === null) return;
  if (line.dataset.next !== next.uid) {
    line.dataset.next = next.uid;
    line.replaceChildren("next: ", link(analysisPath(next.uid), next.sample), make("br"), make("span"));
  }
  say(line.lastChild, next.start ? expected(next.start, now) : "");
}

// Queues

const CELLS = ["free", "slots", "busy", "waiting", "oldest", "newcomer"];
const LESS_URGENT = ["slots", "busy"];

function makeQueue(queue) {
  const name = make("th", "", [queue.profile, " ", makePart("span", "offline", "badge bg-secondary")], { scope: "row" });
  const classes = (cell) => `text-end${LESS_URGENT.includes(cell) ? " broker-secondary-column" : ""}`;
  return make("tr", "", [name, ...CELLS.map((cell) => makePart("td", cell, classes(cell)))], {
    "data-profile": queue.profile,
  });
}

function showQueue(line, queue, now, estimates) {
  const offline = part(line, "offline");
  offline.hidden = queue.online;
  say(offline, "offline");
  for (const cell of ["free", "slots", "busy"]) say(part(line, cell), String(queue[cell]));
  say(part(line, "waiting"), String(queue.queued + queue.in_line));
  say(part(line, "oldest"), queue.oldest === null ? dash : duration(now - queue.oldest));
  part(line, "newcomer").hidden = !estimates;
  say(part(line, "newcomer"), queue.newcomer ? expected(queue.newcomer, now) : dash);
}

// What could not be dealt with

const PARTS = ["where", "count", "first", "next", "error"];

function makeQuarantined(one) {
  const classes = { count: "text-end", first: "text-end broker-secondary-column", next: "text-end" };
  const name = make("th", "", one.uid, { scope: "row" });
  return make("tr", "", [name, ...PARTS.map((cell) => makePart("td", cell, classes[cell] ?? ""))]);
}

function showQuarantined(line, one, now) {
  say(part(line, "where"), one.where);
  say(part(line, "count"), String(one.count));
  say(part(line, "first"), duration(now - one.first));
  say(part(line, "next"), one.next > now ? `in ${duration(one.next - now)}` : "now");
  say(part(line, "error"), one.error);
}

// Analyses

function makeRow(row) {
  return make("article", "fleet-row", [
    make("div", "fleet-row-sample", [
      make("a", "fleet-row-name", row.sample, { href: analysisPath(row.uid), title: row.uid }),
      makePart("span", "note", "fleet-muted"),
      makePart("a", "retry-of", "fleet-row-retry"),
      makePart("a", "retried", "fleet-row-retry"),
    ]),
    make("div", "fleet-row-state", makePart("span", "state")),
    makePart("div", "where", "fleet-row-where fleet-muted"),
    makePart("div", "bar"),
    makePart("div", "took", "fleet-row-took"),
    makePart("div", "error", "fleet-row-error"),
  ], { "data-uid": row.uid });
}

/** A link to another analysis of the same sample, if there is one. */
function showOther(element, what, uid) {
  element.hidden = uid === null;
  if (uid === null) return;
  element.href = analysisPath(uid);
  element.title = uid;
  say(element, `${what} ${uid.slice(0, 8)}`);
}

function showRow(line, row, now) {
  showState(part(line, "state"), row.state);
  say(part(line, "note"), [row.sha256?.slice(0, 12), moment(row.received)].filter(Boolean).join(" · "));
  showOther(part(line, "retry-of"), "retry of", row.retry_of);
  showOther(part(line, "retried"), "retried as", row.retries.at(-1) ?? null);
  const where = row.reused_from !== null ? "reused" : row.host ? [row.host, row.slot].filter(Boolean).join("/") : row.profile ?? dash;
  say(part(line, "where"), row.attempts > 1 ? `${where} · attempt ${row.attempts}` : where);
  showBar(part(line, "bar"), row, now);
  say(part(line, "took"), row.start ? `starts ${expected(row.start, now)}` : duration((row.finished ?? now) - row.received));
  part(line, "error").hidden = !row.error;
  say(part(line, "error"), row.error ?? "");
}

// The page

function show(view) {
  const now = view.now;
  const slots = view.hosts.flatMap((host) => host.slots);
  const out = slots.filter((slot) => OUT.includes(slot.state)).length;
  const used = slots.filter((slot) => slot.uid !== null).length;
  const oldest = view.queues.map((queue) => queue.oldest).filter((since) => since !== null);
  const waiting = view.queues.reduce((sum, queue) => sum + queue.queued + queue.in_line, view.unread + view.twins);
  say(get("total-used"), `${used} of ${slots.length}`);
  say(get("total-waiting"), String(waiting));
  say(get("total-oldest"), oldest.length ? duration(now - Math.min(...oldest)) : dash);
  say(get("total-out"), String(out));
  get("trouble-card").classList.toggle("metric-card-danger", out > 0);
  get("hosts-empty").hidden = view.hosts.length > 0;
  sync(get("hosts"), view.hosts, (host) => host.host, makeHost, (card, host) => showHost(card, host, now));
  const estimates = view.queues.some((queue) => queue.newcomer);
  get("newcomer-head").hidden = !estimates;
  sync(get("queues"), view.queues, (queue) => queue.profile, makeQueue, (line, queue) => showQueue(line, queue, now, estimates));
  get("unread").hidden = view.unread === 0;
  say(get("unread"), `${view.unread} on Karton's own queue, which nobody has looked at yet`);
  get("twins").hidden = view.twins === 0;
  say(get("twins"), `${view.twins} waiting for the result of an analysis that is under way, without a slot`);
  get("drift").hidden = view.drift.length === 0;
  say(get("drift"), view.drift.join(" · "));
  get("odd-keys").hidden = view.odd_keys.length === 0;
  say(get("odd-keys"), view.odd_keys.join(" · "));
  get("quarantine-section").hidden = view.quarantined.length === 0;
  const place = (one) => `${one.where} ${one.uid}`;
  sync(get("quarantine"), view.quarantined, place, makeQuarantined, (line, one) => showQuarantined(line, one, now));
  if (search.isOn()) return;
  get("analyses-empty").hidden = view.analyses.length > 0;
  showRows(view);
}

function showRows(view) {
  const key = (row) => `${row.uid} ${row.received}`;
  sync(get("analyses"), view.analyses, key, makeRow, (line, row) => showRow(line, row, view.now));
}

const search = makeSearch(showRows);

follow(page, fleetPath(), show);
