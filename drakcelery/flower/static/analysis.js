import {
  POLL_RARELY, analysisPath, artifactPath, confirmed, duration, expected, follow, link, make, moment, say, showBar,
  showLegend, showState, size, sync, taskPath,
} from "./page.js";
import { followLog } from "./live.js";
import { showReport } from "./report.js";
import { showScreenshots } from "./screenshots.js";
import { readButton } from "./text.js";

const page = document.getElementById("analysis");
const uid = page.dataset.uid;
const mayAct = page.dataset.mayAct === "1";
const get = (id) => document.getElementById(id);

get("cancel").onclick = () => confirmed({
  title: "Cancel this analysis?",
  text: "Its guest is destroyed, and nothing is published. In Karton the sample task becomes CRASHED.",
  what: "Cancel the analysis",
  path: `${analysisPath(uid)}/cancel`,
});

get("artifacts-zip").href = `${analysisPath(uid)}/artifacts.zip`;

get("retry").onclick = () => confirmed({
  title: "Analyse the sample again?",
  text: "A new analysis of the same sample, with a uid of its own. This one stays as it is.",
  what: "Analyse again",
  path: `${analysisPath(uid)}/retry`,
});

function makeEvent(event) {
  const head = make("div", "fleet-event-head", [make("strong", "", event.what)]);
  const facts = [];
  if (event.attempt !== null) facts.push(`attempt ${event.attempt}`);
  if (event.host !== null) facts.push([event.host, event.slot].filter(Boolean).join("/"));
  if (event.fault !== null) facts.push(event.fault);
  if (facts.length) head.append(make("span", "fleet-muted", facts.join(" · ")));
  if (event.task !== null) head.append(link(taskPath(event.task), `Celery task ${event.stage}`));
  const time = make("time", "fleet-event-time", moment(event.at), { datetime: new Date(event.at * 1000).toISOString() });
  const item = make("li", "fleet-event", [time, head], { "data-what": event.what });
  if (event.error !== null) item.append(make("pre", "fleet-event-error", event.error));
  return item;
}

function makeArtifact(artifact) {
  const name = link(artifactPath(uid, artifact.name), artifact.name);
  const cells = [make("td", "", name), make("td", "text-end", size(artifact.size)), make("td", "text-end", readButton(uid, artifact.name))];
  return make("tr", "", cells);
}

function details(view) {
  const row = view.row;
  const some = (value, text) => (value === null || value === "" ? null : text(value));
  return [
    ["Analysis", row.uid],
    ["SHA256", row.sha256],
    ["Size", some(view.size, size)],
    ["Kind of file", view.magic],
    ["Runs as", view.runs_as],
    ["Start command", view.start_command],
    ["Timeout", some(view.timeout, duration)],
    ["Profile", row.profile],
    ["Where", row.host ? [row.host, row.slot].filter(Boolean).join("/") : null],
    ["Priority", view.priority],
    ["Quality", view.quality],
    ["Plugins", some(view.plugins.join(", "), String)],
    ["Attempts", String(row.attempts)],
    ["Execution", view.execution],
    ["Complete", some(view.complete, (is) => (is ? "yes" : "no: what the sample did is not all to be seen"))],
    ["Reason", view.reason],
    ["Watched", view.watched],
    ["Not imitated", some(view.missing_functions.join(", "), String)],
    ["Took", duration((row.finished ?? view.now) - row.received)],
    ["Sample task in Karton", view.task_uid],
    ["Root task in Karton", view.root_uid],
    ["Analysis task in Karton", view.analysis_task_uid],
  ].filter(([, value]) => value !== null);
}

function makeDetail([name]) {
  return make("div", "detail-row", [make("dt", "", name), make("dd")]);
}

/** What one looks for first: which file it is. */
function showAbout(view) {
  const about = get("about");
  if (about.dataset.of === view.row.uid) return;
  about.dataset.of = view.row.uid;
  const facts = [view.magic, view.size === null ? null : size(view.size)].filter(Boolean).join(" · ");
  about.replaceChildren(facts, ...(view.row.sha256 ? [make("br"), "sha256 ", make("code", "", view.row.sha256)] : []));
}

function newsOf(news) {
  if (news === null) return "";
  return news === 0 ? ": nothing more was seen" : `: ${news} more thing${news === 1 ? "" : "s"}`;
}

function show(view) {
  const row = view.row;
  say(get("sample"), row.sample);
  showState(get("state"), row.state);
  get("cancel").hidden = !(mayAct && view.may_cancel);
  get("retry").hidden = !(mayAct && (view.may_retry || view.no_retry !== null));
  get("retry").disabled = !view.may_retry;
  get("no-retry").hidden = get("retry").hidden || view.no_retry === null;
  say(get("no-retry"), view.no_retry === null ? "" : `Cannot be analysed again: ${view.no_retry}`);
  const other = (what, uid) => (uid === null ? [] : [[what, uid, ""]]);
  const others = [
    ...other("The run of", row.reused_from),
    ...other("A retry of", row.retry_of),
    ...row.retries.map((one) => ["Retried as", one, ""]),
    ...(row.variant_of === null ? [] : [["A second look at", row.variant_of, newsOf(row.news_to_first)]]),
    ...row.variants.map((one) => ["Second look", one.uid, newsOf(one.news)]),
  ];
  sync(
    get("retries"),
    others,
    ([what, one, news]) => `${what} ${one} ${news}`,
    ([what, one, news]) => make("li", "", [`${what} `, link(analysisPath(one), one), news]),
    () => {},
  );
  showAbout(view);
  showBar(get("bar"), row, view.now);
  showLegend(get("legend"), row, view.now);
  get("expected").hidden = !row.start;
  if (row.start) say(get("expected"), `Expected to start ${expected(row.start, view.now)}`);
  get("error").hidden = !row.error;
  say(get("error"), row.error ?? "");
  sync(get("timeline"), view.timeline, (one) => `${one.at} ${one.what}`, makeEvent, () => {});
  get("artifacts-empty").hidden = view.artifacts.length > 0;
  say(get("artifacts-empty"), view.trouble ?? "Nothing is stored.");
  get("artifacts-card").hidden = get("artifacts-all").hidden = view.artifacts.length === 0;
  sync(get("artifacts"), view.artifacts, (one) => `${one.name} ${one.size}`, makeArtifact, () => {});
  sync(get("details"), details(view), ([name]) => name, makeDetail, (line, [, value]) => say(line.lastChild, value));
  followLog(uid, row.finished !== null);
  const version = `${row.attempts} ${row.finished}`;
  if (row.state === "PUBLISHED") showReport(uid, version);
  if (row.finished !== null) showScreenshots(uid, version, view.artifacts);
  return row.finished === null ? null : POLL_RARELY;
}

follow(page, analysisPath(uid), show);
