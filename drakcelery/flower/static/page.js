// What our pages share. Everything that comes from a sample is put in as text, never as markup.

const prefix = (() => {
  const given = document.getElementById("url_prefix").value.replace(/^\/+|\/+$/g, "");
  return given ? `/${given}` : "";
})();

const POLL = 1000;
const POLL_AFTER_ERROR = 3000;
/** An answer that takes longer counts as none: what is shown would pass for news. */
const PATIENCE = 8000;
/** For what will not change by itself. */
export const POLL_RARELY = 5000;

export const fleetPath = () => `${prefix}/fleet`;
export const watchingPath = () => `${prefix}/watching`;
export const hostPath = (host, action) => `${prefix}/fleet/host/${encodeURIComponent(host)}/${action}`;
export const analysisPath = (uid) => `${prefix}/analysis/${encodeURIComponent(uid)}`;
export const artifactPath = (uid, name) => `${analysisPath(uid)}/artifact/${encodeURIComponent(name)}`;
export const taskPath = (id) => `${prefix}/task/${encodeURIComponent(id)}`;
export const workerPath = (name) => `${prefix}/worker/${encodeURIComponent(name)}`;

/** A new element: its classes, its text or children, its attributes. */
export function make(tag, classes = "", content = [], attributes = {}) {
  const element = document.createElement(tag);
  element.className = classes;
  element.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Give *element* a text, and leave it alone where it has it: a selection stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function link(path, text, classes = "") {
  return make("a", classes, text, { href: path });
}

/** Make the children of *parent* one for each item, in order; those that are there are kept, and with them the focus. */
export function sync(parent, items, key, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const name = key(item);
    const child = old.get(name) ?? create(item);
    child.dataset.key = name;
    old.delete(name);
    update(child, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== child) parent.insertBefore(child, place);
    before = child;
  }
  for (const child of old.values()) child.remove();
}

/** `1:02:03` or `2:03`, as on the command line. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${Math.floor(whole / 60) % 60}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest.padStart(5, "0")}` : rest;
}

/** Local date and time. */
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
}

/** How long until a time that is only known as a range. */
export function expected(range, now) {
  const [low, high] = [range.low - now, range.high - now].map((one) => duration(one));
  if (range.high - now < 1) return "now";
  return low === high ? `in ${low}` : `in ${low}–${high}`;
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, unit] = [bytes, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const STATE_BADGES = {
  PUBLISHED: "text-bg-success",
  FAILED: "text-bg-danger",
  CANCELLED: "text-bg-secondary",
  QUEUED: "fleet-badge-waiting",
};

export function showState(badge, state) {
  badge.className = `badge ${STATE_BADGES[state] ?? "task-state-started"}`;
  say(badge, state);
}

/** A bar whose parts are as long as the stages took. */
export function showBar(bar, row, now) {
  const parts = row.spans.map((one) => ({ name: one.name, took: Math.max(0, (one.end ?? now) - one.start) }));
  bar.className = "fleet-bar";
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", parts.map((one) => `${one.name} ${duration(one.took)}`).join(", "));
  sync(bar, parts, (one) => one.name, (one) => make("span", `bar-${one.name}`), (part, one) => {
    part.style.flexGrow = String(Math.max(one.took, 0.001));
    part.title = `${one.name} ${duration(one.took)}`;
  });
}

/** What the colours of the bar of *row* mean, and how long each took. */
export function showLegend(list, row, now) {
  sync(list, row.spans, (one) => one.name, (one) => make("li", "", [make("span", `bar-${one.name}`), make("span")]), (line, one) => {
    say(line.lastChild, `${one.name === "earlier" ? "failed attempts" : one.name} ${duration((one.end ?? now) - one.start)}`);
  });
}

/** Call *show* with the data of this page, again and again if the page is live; it may say how many ms later. */
export function follow(page, path, show) {
  const dot = document.getElementById("live-dot");
  const text = document.getElementById("live-text");
  const live = page.dataset.live === "1";

  async function once() {
    let pause = POLL;
    if (!document.hidden) {
      try {
        const answer = await fetch(`${path}?json=1`, { signal: AbortSignal.timeout(PATIENCE) });
        if (!answer.ok) {
          const isSentence = (answer.headers.get("Content-Type") ?? "").startsWith("text/plain");
          throw new Error((isSentence && await answer.text()) || `Flower answers ${answer.status}`);
        }
        pause = show(await answer.json()) ?? POLL;
        dot.className = "status-dot status-dot-live";
        say(text, live ? "Live" : "Loaded");
      } catch (error) {
        dot.className = "status-dot status-dot-error";
        say(text, error instanceof TypeError || error.name === "TimeoutError" ? "Flower does not answer" : error.message);
        pause = POLL_AFTER_ERROR;
      }
    }
    if (live) window.setTimeout(once, pause);
  }
  once();
}

function tell(message, isError) {
  const toast = make("div", `toast align-items-center border-0 text-bg-${isError ? "danger" : "success"}`, [], {
    role: isError ? "alert" : "status",
  });
  const close = make("button", "btn-close btn-close-white me-2 m-auto", [], {
    type: "button", "data-bs-dismiss": "toast", "aria-label": "Close",
  });
  toast.append(make("div", "d-flex", [make("div", "toast-body", message), close]));
  document.getElementById("toast-container").append(toast);
  toast.addEventListener("hidden.bs.toast", () => toast.remove());
  window.bootstrap.Toast.getOrCreateInstance(toast, { delay: isError ? 10000 : 5000 }).show();
}

/** What a request that changes something has to bring along. */
export function xsrfToken() {
  const token = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]+)/);
  return token ? decodeURIComponent(token[1]) : "";
}

async function post(path) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "X-XSRFToken": xsrfToken(), Accept: "application/json" },
    });
    tell((await answer.json()).message, !answer.ok);
  } catch {
    tell("Flower does not answer", true);
  }
}

/** Ask before doing: *what* is the button's word. */
export function confirmed({ title, text, what, path }) {
  const dialog = document.getElementById("confirm");
  const yes = document.getElementById("confirm-yes");
  const modal = window.bootstrap.Modal.getOrCreateInstance(dialog);
  say(document.getElementById("confirm-title"), title);
  say(document.getElementById("confirm-text"), text);
  say(yes, what);
  yes.onclick = () => {
    modal.hide();
    post(path);
  };
  modal.show();
}
