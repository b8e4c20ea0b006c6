"use strict";
// Asks /status once a second and shows it. Everything is put in as text, never as markup: paths and peers
// come from strangers.

const PERIOD = 1000;
const KEPT = 300;
const history = { rate: [], memory: [], running: [], waiting: [], cpu: [] };
let before = null;

const at = (id) => document.getElementById(id);
const put = (id, text) => { at(id).textContent = text; };

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.1 ? 1 : 0)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 3600)} h ${Math.floor(value / 60) % 60} min`;
}

const size = (value) => (value === null || value === undefined ? "–" : `${(value / 1048576).toFixed(0)} MiB`);
const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
const sum = (rows, key) => rows.reduce((total, row) => total + (row[key] || 0), 0);

function table(id, heads, rows) {
  const element = at(id);
  const body = [];
  const line = document.createElement("tr");
  for (const head of heads) {
    const cell = document.createElement("th");
    cell.textContent = head;
    line.append(cell);
  }
  body.push(line);
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
    cell.textContent = "nothing";
    tr.append(cell);
    body.push(tr);
  }
  element.replaceChildren(...body);
}

function plot(name, series, show) {
  const most = Math.max(...series.flat(), 1e-9);
  const lines = series.map((values, index) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const points = values.map((value, i) => `${300 - (values.length - 1 - i) * (300 / (KEPT - 1))},${78 - (76 * value) / most}`);
    line.setAttribute("points", points.join(" "));
    if (index) line.setAttribute("class", "second");
    return line;
  });
  at(`plot-${name}`).replaceChildren(...lines);
  put(`top-${name}`, show(most));
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
  put("p50", seconds(status.latencies.app.p50));
  put("p99", seconds(status.latencies.app.p99));
  put("wait99", seconds(status.latencies.ready_wait.p99));

  keep("rate", rate);
  keep("memory", workers.reduce((total, w) => total + (w.pss || w.rss || 0), 0));
  keep("running", sum(workers, "running"));
  keep("waiting", sum(workers, "waiting"));
  keep("cpu", sum(workers, "cpu_share"));
  plot("rate", [history.rate], (most) => `top ${Math.round(most)}`);
  plot("memory", [history.memory], (most) => `top ${size(most)}`);
  plot("running", [history.running, history.waiting], (most) => `top ${Math.round(most)}`);
  plot("cpu", [history.cpu], (most) => `top ${most.toFixed(2)}`);

  table("workers", ["slot", "pid", "generation", "state", "up", "mode", "threads", "running", "waiting", "open", "requests",
    "errors", "oldest", "CPU", "RSS", "PSS", "descriptors", "health"],
  workers.map((w) => [w.slot, w.pid, w.generation, w.state, seconds(w.uptime), w.mode, w.threads, w.running, w.waiting, w.open,
    w.requests, [w.errors, w.errors > 0], seconds(w.oldest), share(w.cpu_share), size(w.rss), size(w.pss),
    w.fds === undefined || w.fds === null ? "–" : w.fds,
    [w.reason || w.verdict || "–", w.verdict !== undefined && w.verdict !== "fine"]]));
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
