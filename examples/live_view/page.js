// Shows what each version of the server says of itself. While one takes over from another, both speak.

const STATES = {
  serving: "serving",
  starting: "starting",
  upgrading: "serving",
  draining: "finishing",
  ended: "ended",
  ready: "ready",
  leaving: "finishing",
  finished: "finished",
  "given-up": "given up",
};
const SECONDS = 60;
const FAREWELL_MS = 1_500;
const MAX_ENTRIES = 100;

const number = new Intl.NumberFormat("en");
const time = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const element = (id) => document.getElementById(id);
const copy = (id) => element(id).content.firstElementChild.cloneNode(true);
const field = (parent, name) => parent.querySelector(`[data-field="${name}"]`);

/** What versions say, by process id: the last snapshot and the card that shows it. */
const versions = new Map();
const entries = new Set();
let connected = false;

/** Listens to the version that serves. The browser connects again when that ends without a word. */
function follow() {
  const stream = new EventSource("/events");
  let processId;
  let successor = false;
  stream.onmessage = ({ data }) => {
    const snapshot = JSON.parse(data);
    // It ended without a word, and another serves.
    if (processId !== undefined && processId !== snapshot.processId) forget(processId);
    processId = snapshot.processId;
    connected = true;
    show(snapshot);
    const { state } = snapshot;
    if ((state === "draining" || state === "ended") && !successor) {
      successor = true;
      follow();
    }
    if (state === "ended") {
      stream.close();
      setTimeout(() => forget(processId), FAREWELL_MS);
    }
    showStatus();
  };
  stream.onerror = () => {
    if (successor) {
      stream.close();
      forget(processId);
    } else if (![...versions.values()].some(({ snapshot }) => snapshot.state === "draining")) {
      connected = false;
    }
    showStatus();
  };
}

function show(snapshot) {
  const { processId } = snapshot;
  let version = versions.get(processId);
  if (version === undefined) {
    version = { card: copy("version") };
    versions.set(processId, version);
    element("versions").append(version.card);
  }
  version.snapshot = snapshot;
  showVersion(version.card, snapshot);
  for (const { id, at, level, text } of snapshot.log) showEntry(`${processId}-${id}`, at, level, text);
}

function forget(processId) {
  versions.get(processId)?.card.remove();
  versions.delete(processId);
  showStatus();
}

function showVersion(card, { version, processId, state, uptime, workers, ...figures }) {
  card.dataset.state = state;
  card.dataset.processId = processId;
  set(card, "name", `Version ${version}`);
  set(card, "process", `process ${processId}`);
  set(card, "uptime", duration(uptime));
  setState(card, state);
  showFigures(card, figures, state === "draining");
  set(card, "rate", number.format(figures.perSecond.at(-1) ?? 0));
  const peak = Math.max(0, ...figures.perSecond);
  set(card, "peak", peak === 0 ? "no connections" : `at most ${number.format(peak)} per second`);
  // Versions are drawn to one scale, and so are the workers of each.
  const all = [...versions.values()].flatMap(({ snapshot }) => snapshot.perSecond);
  draw(card.querySelector("figure .line"), figures.perSecond, Math.max(...all));
  const highest = Math.max(...workers.flatMap(({ perSecond }) => perSecond));
  const list = card.querySelector(".workers");
  for (const worker of workers) {
    const row = list.children[worker.index + 1] ?? list.appendChild(copy("worker"));
    const workerState = worker.state === "ended" && state !== "serving" ? "finished" : worker.state;
    row.dataset.processId = worker.processId;
    row.dataset.state = workerState;
    set(row, "index", String(worker.index));
    set(row, "process", worker.processId === 0 ? "" : String(worker.processId));
    setState(row, workerState);
    showFigures(row, worker, workerState === "leaving");
    draw(row.querySelector(".line"), worker.perSecond, highest);
  }
}

/** A version or worker that is leaving tells no more of what it closes: it has no more than it had. */
function showFigures(parent, { held, inFlight, waiting, taken, returned, p50, p99 }, leaving) {
  for (const [name, value] of Object.entries({ inFlight, waiting, taken, returned })) {
    if (value !== undefined) set(parent, name, number.format(value));
  }
  set(parent, "held", leaving && held > 0 ? `≤ ${number.format(held)}` : number.format(held));
  set(parent, "p50", milliseconds(p50));
  set(parent, "p99", milliseconds(p99));
}

function showEntry(id, at, level, text) {
  if (entries.has(id)) return;
  entries.add(id);
  const entry = copy("entry");
  entry.dataset.level = level;
  entry.dataset.at = at;
  entry.querySelector("time").textContent = time.format(at);
  entry.querySelector("span").textContent = text;
  const log = element("log");
  const older = [...log.children].find((other) => Number(other.dataset.at) <= at);
  log.insertBefore(entry, older ?? null);
  while (log.children.length > MAX_ENTRIES) log.lastElementChild.remove();
}

/** One sentence for all. */
function showStatus() {
  const all = [...versions.values()].map(({ snapshot }) => snapshot);
  const serving = all.find(({ state }) => state === "serving" || state === "upgrading");
  const draining = all.find(({ state }) => state === "draining");
  const upgrading = serving?.state === "upgrading";
  const workers = serving?.workers ?? [];
  const ready = workers.filter(({ state }) => state === "ready").length;
  const [tone, title] = !connected
    ? ["bad", "No answer"]
    : upgrading
    ? ["wait", "Upgrading"]
    : serving === undefined
    ? ["wait", draining === undefined ? "Starting" : "Upgrading"]
    : ready === 0
    ? ["bad", "No worker is ready"]
    : ready < workers.length
    ? ["wait", "Serving, with fewer workers"]
    : ["good", "Serving"];
  const details = !connected ? ["trying again"] : [
    serving && `${ready} of ${workers.length} workers ready`,
    serving?.refused > 0 && `${number.format(serving.refused)} connections refused`,
    draining && `version ${draining.version} is finishing`,
  ];
  const { url } = serving ?? draining ?? {};
  if (url !== undefined) {
    element("url").href = url;
    put(element("url"), url.replace("http://", ""));
  }
  document.body.classList.toggle("lost", !connected);
  element("status").dataset.tone = tone;
  put(element("status"), title);
  put(element("detail"), details.filter(Boolean).map((detail) => ` · ${detail.replaceAll(" ", "\u00a0")}`).join(""));
  document.title = `${title} · Live view`;
  element("upgrade").disabled = !connected || serving?.state !== "serving" || draining !== undefined;
  const last = upgrading ? serving : serving === undefined ? draining : undefined;
  showComing(last && last.version + 1);
}

/** The next version, from which nothing is heard yet. */
function showComing(version) {
  const shown = document.querySelector(".coming");
  if (version === undefined) return shown?.remove();
  const card = shown ?? element("versions").appendChild(copy("coming"));
  set(card, "name", `Version ${version}`);
}

/** A line through the values, the latest at the right, and the area under it. */
function draw(svg, values, highest) {
  const first = SECONDS - values.length;
  const points = values.map((value, index) => `${first + index},${100 - value / Math.max(highest, 1) * 96}`).join(" L");
  svg.querySelector(".stroke").setAttribute("d", points && `M${points}`);
  svg.querySelector(".area").setAttribute("d", points && `M${first},100 L${points} L${SECONDS - 1},100 Z`);
}

function set(parent, name, text) {
  put(field(parent, name), text);
}

/** What stays the same is left alone, for whoever has it read aloud or has selected it. */
function put(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function setState(parent, state) {
  const target = field(parent, "state");
  target.dataset.state = state;
  put(target, STATES[state] ?? state);
}

function milliseconds(value) {
  if (value === null) return "–";
  return value < 10 ? value.toFixed(1) : number.format(Math.round(value));
}

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

element("upgrade").onclick = ({ currentTarget }) => {
  currentTarget.disabled = true;
  fetch("/upgrade", { method: "POST" }).catch(showStatus);
};
follow();
