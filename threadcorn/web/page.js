"use strict";
// Asks /status once a second and shows it. Everything is put in as text, never as markup: paths and peers
// come from strangers.

const PERIOD = 1000;
const KEPT = 300;
const history = { rate: [], memory: [], running: [], waiting: [], cpu: [] };
const SVG = "http://www.w3.org/2000/svg";
const marks = new Map();
let before = null;

const at = (id) => document.getElementById(id);
const put = (id, text) => { at(id).textContent = text; };

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.1 ? 1 : 0)} ms`;
  if (value < 120) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  return `${Math.floor(value / 3600)} h ${Math.floor(value / 60) % 60} min`;
}

const size = (value) => (value === null || value === undefined ? "–" : `${(value / 1048576).toFixed(0)} MiB`);
const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
const sum = (rows, key) => rows.reduce((total, row) => total + (row[key] || 0), 0);

function table(id, heads, rows, empty = "nothing") {
  const element = at(id);
  const body = [];
  const line = document.createElement("tr");
  for (const head of heads) {
    const cell = document.createElement("th");
    cell.textContent = head;
    line.append(cell);
  }
  if (heads.length) body.push(line);
  for (const row of rows) {
    const tr = document.createElement("tr");
    for (const value of row) {
      const cell = document.createElement("td");
      cell.textContent = Array.isArray(value) ? value[0] : value;
      if (Array.isArray(value) && value[1]) cell.className = "bad";
      tr.append(cell);
    }
    body.push(tr);
  }
  if (!rows.length) {
    const tr = document.createElement("tr");
    const cell = document.createElement("td");
    cell.colSpan = heads.length;
    cell.textContent = empty;
    tr.append(cell);
    body.push(tr);
  }
  element.replaceChildren(...body);
}

function plot(name, series, show) {
  const kept = series[0].length;
  const most = Math.max(...series.flat(), 1e-9);
  const step = 300 / (Math.max(60, kept) - 1);
  const shapes = [];
  series.forEach((values, index) => {
    const points = values.map((value, i) => `${(300 - (kept - 1 - i) * step).toFixed(1)},${(78 - (74 * value) / most).toFixed(1)}`);
    if (!index && kept > 1) {
      const area = document.createElementNS(SVG, "polygon");
      area.setAttribute("points", `${(300 - (kept - 1) * step).toFixed(1)},78 ${points.join(" ")} 300,78`);
      shapes.push(area);
    }
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.join(" "));
    if (index) line.setAttribute("class", "second");
    shapes.push(line);
  });
  at(`plot-${name}`).replaceChildren(...shapes);
  put(`top-${name}`, `now ${series.map((values) => show(values[kept - 1])).join(", ")} · most ${show(most)}`);
  put(`span-${name}`, `last ${seconds(Math.max(60, kept) * PERIOD / 1000)}`);
}

// Whether a number that only grows has grown in the last minute.
function grew(key, value) {
  const now = Date.now();
  const seen = marks.get(key) || [];
  if (!seen.length || seen[seen.length - 1][1] !== value) seen.push([now, value]);
  while (seen.length > 1 && seen[1][0] < now - 60000) seen.shift();
  marks.set(key, seen);
  return seen.length > 1 && now - seen[seen.length - 1][0] < 60000;
}

const pairs = (counts) => Object.entries(counts).map(([name, count]) => `${name}: ${count}`).join(", ") || "none";

function about(server, machine) {
  const rows = [
    ["listens at", server.addresses.join(", ")],
    ["up", `${seconds(server.uptime)}, generation ${server.generation}`],
    ["workers that ended", pairs(server.exits)],
    ["replaced for their health", pairs(server.recycles)],
  ];
  const of = (value, show) => (value === undefined ? null : show(value));
  const found = [
    of(machine.memory_used, (value) => `memory ${size(value)}${machine.memory_limit ? ` of ${size(machine.memory_limit)}` : ""}`),
    of(machine.cpu_limit, (value) => `processors ${value}`),
    of(machine.throttled_seconds, (value) => `held up by the CPU quota for ${seconds(value)}`),
    of(machine.oom_kills, (value) => `killed for memory: ${value}`),
    ...["cpu", "memory", "io"].map((kind) => of(machine[`${kind}_pressure`], (value) => `${kind} pressure ${value} %`)),
  ].filter((text) => text !== null);
  if (found.length) rows.push(["machine", found.join(", ")]);
  return rows;
}

function keep(name, value) {
  history[name].push(value);
  if (history[name].length > KEPT) history[name].shift();
}

function show(status) {
  const { server, workers } = status;
  put("version", server.version);
  const state = at("state");
  state.textContent = server.ready ? `${server.phase}, ${server.workers_ready} of ${server.workers_wanted} workers ready`
    : `not ready: ${server.reasons.join("; ")}`;
  state.className = server.ready ? "state good" : "state bad";
  document.title = `threadcorn – ${server.ready ? server.phase : "not ready"}`;

  const rate = before === null ? 0
    : Math.max(0, (server.requests - before.requests) / Math.max(0.001, server.uptime - before.uptime));
  before = { requests: server.requests, uptime: server.uptime };
  put("rate", Math.round(rate));
  put("requests", server.requests);
  put("errors", server.errors);
  put("running", sum(workers, "running"));
  put("waiting", sum(workers, "waiting"));
  put("open", sum(workers, "open"));
  put("queued", sum(status.queues, "depth"));
  put("p50", seconds(server.recent.app.p50));
  put("p99", seconds(server.recent.app.p99));
  put("wait99", seconds(server.recent.ready_wait.p99));
  put("recent", seconds(server.recent.seconds));
  at("notes").replaceChildren(...server.notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));

  keep("rate", rate);
  keep("memory", workers.reduce((total, w) => total + (w.pss || w.rss || 0), 0));
  keep("running", sum(workers, "running"));
  keep("waiting", sum(workers, "waiting"));
  keep("cpu", sum(workers, "cpu_share"));
  plot("rate", [history.rate], (value) => `${Math.round(value)}`);
  plot("memory", [history.memory], size);
  plot("running", [history.running, history.waiting], (value) => `${Math.round(value)}`);
  plot("cpu", [history.cpu], (value) => value.toFixed(2));

  table("workers", ["slot", "pid", "generation", "state", "up", "mode", "threads", "running", "waiting", "open", "requests",
    "errors", "oldest", "CPU", "RSS", "PSS", "descriptors", "health"],
  workers.map((w) => [w.slot, w.pid, w.generation, w.state, seconds(w.uptime), w.mode, w.threads, w.running, w.waiting, w.open,
    w.requests, [w.errors, grew(`errors ${w.pid}`, w.errors)], seconds(w.oldest), share(w.cpu_share), size(w.rss), size(w.pss),
    w.fds === undefined || w.fds === null ? "–" : w.fds,
    [w.reason || w.verdict || "–", w.verdict && w.verdict !== "fine"]]));
  table("server", [], about(server, status.machine));
  table("now", ["for", "slot", "thread", "request", "peer"],
    status.requests.map((r) => [seconds(r.age), r.slot, r.thread, `${r.method} ${r.path}`, r.peer]));
  table("finished", ["ago", "took", "status", "slot", "request", "peer"],
    status.finished.slice(0, 15).map((r) => [seconds(r.since), seconds(r.age), [r.status || "no answer", !r.status || r.status >= 500],
      r.slot, `${r.method} ${r.path}`, r.peer]));
}

async function turn() {
  try {
    const answer = await fetch("status", { cache: "no-store" });
    show(await answer.json());
    document.body.dataset.turns = String(Number(document.body.dataset.turns || 0) + 1);
  } catch (error) {
    const state = at("state");
    state.textContent = `no answer: ${error.message}`;
    state.className = "state bad";
  }
  setTimeout(turn, PERIOD);
}

turn();
