// Draws the pages of `lions serve` from its JSON. Whatever strangers wrote becomes text nodes, never markup.
"use strict";

// ---- text ----

/** Marks that turn the direction of text and codes that steer a terminal are shown as what they are: not text. */
const clean = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

function measured(value) {
  if (value === null || value === undefined) return "not finite";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return String(value);
  return size >= 1e-3 && size < 1e6 ? value.toFixed(4) : value.toExponential(3);
}

function secs(value) {
  if (value === null || value === undefined) return "";
  const two = (n) => String(n).padStart(2, "0");
  const s = Math.round(Math.max(value, 0));
  if (value < 10) return Math.max(value, 0).toFixed(1) + "s";
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m" + two(s % 60) + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h" + two(Math.floor(s / 60) % 60) + "m";
  return Math.floor(s / 86400) + "d" + two(Math.floor(s / 3600) % 24) + "h";
}

function scaled(value, step, units) {
  let at = 0;
  while (value >= step && at < units.length - 1) { value /= step; at += 1; }
  return (at ? value.toFixed(1) : value.toFixed(0)) + units[at];
}
const bytes = (n) => scaled(n, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
const si = (n) => scaled(n, 1000, ["", "k", "M", "G", "T", "P"]);
const time = (millis) => new Date(millis).toISOString().slice(0, 19).replace("T", " ") + " UTC";
const short = (id) => id.slice(0, 12);
const counted = (n, noun) => n + " " + noun + (n === 1 ? "" : "s");

// ---- elements ----

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "path", "line", "polyline", "text", "rect", "circle", "g"]);

/** An element; strings among its children become text. `on…` are listeners, everything else attributes. */
function h(tag, props, ...children) {
  const node = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : clean(value));
  }
  const put = (child) => {
    if (child === null || child === undefined || child === false) return;
    if (Array.isArray(child)) child.forEach(put);
    else node.append(child instanceof Node ? child : clean(child));
  };
  children.forEach(put);
  return node;
}

/** Replaces what a place holds, if it is something new, and leaves the focus where it was. */
function fill(place, data, draw) {
  const text = JSON.stringify(data);
  if (place.drawnFrom === text) return;
  place.drawnFrom = text;
  const key = place.contains(document.activeElement) && document.activeElement.dataset.key;
  place.replaceChildren(...[draw(data)].flat(Infinity).filter(Boolean));
  if (key) [...place.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();
}

const section = (title, ...inner) => h("section", { "aria-label": title }, h("h2", {}, title), ...inner);
const place = () => h("div", {});
const link = (to, text, props) => h("a", { href: to, ...props }, text);
const runLink = (id) => link("/runs/" + short(id), short(id), { class: "id" });
const sweepLink = (name) => link("/sweeps/" + encodeURIComponent(name), name);
const stateMark = (word) => h("span", { class: "state " + word.replace(" ", "-") }, word);
const marked = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
const rich = (parts) => parts.map((p) => ("code" in p ? h("code", {}, p.code) : "strong" in p ? h("strong", {}, p.strong) : p.text));

function table(heads, rows, props) {
  const head = heads.map((one) => (one instanceof Node ? one : h("th", { scope: "col", class: one.class }, one.text ?? one)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": props?.label ?? "table" },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}
const row = (...cells) => h("tr", {}, cells.map((cell) => (cell instanceof Node && cell.tagName === "TD" ? cell : h("td", {}, cell))));
const right = (text) => h("td", { class: "r" }, text);

// ---- asking ----

/** What was answered last, by path, where the server marks it: thousands of rows come once. */
const answered = new Map();

async function get(path) {
  const last = answered.get(path);
  const headers = { Accept: "application/json", ...(last && { "If-None-Match": last.mark }) };
  const response = await fetch(path, { headers, cache: "no-store" });
  if (response.status === 304 && last) return last.body;
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || response.statusText);
  const mark = response.headers.get("ETag");
  if (mark) answered.set(path, { mark, body });
  return body;
}

const query = (values) => {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== "" && value !== null && value !== undefined) all.set(name, value);
  return "?" + all;
};

/** Looks again and again: soon while something is running, seldom when nothing is, not at all while nobody sees it. */
function keepLooking(look) {
  const pulse = document.getElementById("pulse");
  let timer = null;
  let busy = false;
  const again = async () => {
    clearTimeout(timer);
    if (busy) return;
    busy = true;
    let wait = 2000;
    try {
      if (!document.hidden) wait = (await look()) === "over" ? 15000 : 2000;
      pulse.textContent = "";
      pulse.className = "";
    } catch (error) {
      pulse.textContent = clean(error.message);
      pulse.className = "bad";
      wait = 5000;
    }
    busy = false;
    timer = setTimeout(again, wait);
  };
  document.addEventListener("visibilitychange", () => document.hidden || again());
  again();
  return again;
}

// ---- sweeps ----

const STATES = [["succeeded", "done"], ["leased", "running"], ["silent", "silent"], ["ready", "ready"], ["blocked", "waiting"], ["failed", "failed"], ["skipped", "skipped"], ["cancelled", "cancelled"]];

function stateCounts(sweep) {
  const counts = { ...sweep.states, silent: sweep.silent };
  counts.leased -= sweep.silent;
  const rest = Object.keys(counts).filter((key) => !STATES.some(([name]) => name === key));
  return [...STATES, ...rest.map((key) => [key, key])].map(([key, word]) => [word, counts[key]]).filter(([, n]) => n > 0);
}

function bar(counts, total) {
  const parts = counts.map(([word, n]) => {
    const part = h("span", { class: word.replace(" ", "-") });
    part.style.flexGrow = n;
    return part;
  });
  const text = counts.map(([word, n]) => n + " " + word).join(", ");
  return h("div", { class: "bar", role: "img", "aria-label": text + " of " + counted(total, "run") }, parts);
}

const stateList = (counts) => h("p", { class: "states" }, counts.map(([word, n]) => [h("span", { class: "state " + word.replace(" ", "-") }, n + " " + word), " "]));
const leftText = (sweep) => (sweep.over ? "" : sweep.secs_left === null ? "no estimate yet" : "about " + secs(sweep.secs_left) + " left");
const pausedText = (pauses) => (pauses || []).map((pause) => h("p", { class: "bad" }, "lions run has paused since " + time(pause.since) + ": " + pause.reason));

function sweepsPage(main) {
  const list = place();
  main.append(h("h1", {}, "Sweeps"), list);
  keepLooking(async () => {
    const all = await get("/api/sweeps");
    fill(list, all, () => [
      pausedText(all.pauses),
      all.sweeps.length === 0 && h("p", {}, "Nothing has run here yet. ", h("code", {}, "lions run sweeps/quickstart.toml"), " begins."),
      all.sweeps.map((sweep) => {
        const counts = stateCounts(sweep);
        return h("article", { class: "card" },
          h("h2", {}, sweepLink(sweep.name)),
          h("p", { class: "soft" }, sweep.question),
          bar(counts, sweep.runs),
          stateList(counts),
          h("p", { class: "soft" }, [counted(sweep.trials, "trial"), counted(sweep.runs, "run"), leftText(sweep), "last run " + time(sweep.registered)].filter(Boolean).join(" · ")));
      }),
    ]);
    return all.sweeps.every((sweep) => sweep.over) ? "over" : "";
  });
}

// ---- a sweep ----

function spark(values, label) {
  if (values.length < 2) return null;
  const low = Math.min(...values), high = Math.max(...values);
  const points = values.map((v, i) => ((i / (values.length - 1)) * 100).toFixed(1) + "," + (22 - ((v - low) / (high - low || 1)) * 20).toFixed(1));
  return h("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": label },
    h("polyline", { points: points.join(" ") }));
}

function meter(progress) {
  const { done, total, unit } = progress;
  const text = total ? done + " of " + total + " " + unit : unit ? done + " " + unit : "starting";
  const inner = h("span", { class: "at-work" });
  inner.style.width = total ? Math.min(100, (100 * done) / total) + "%" : "0";
  return [h("div", { class: "bar small", "aria-hidden": "true" }, inner), h("span", { class: "nobr" }, text)];
}

function workRow(work) {
  const progress = work.progress;
  return row(work.stage, runLink(work.run), meter(progress),
    h("td", {}, spark(progress.losses, "loss so far"), progress.loss === null ? "" : measured(progress.loss)),
    right(work.tokens_per_sec === null ? "" : si(work.tokens_per_sec) + "/s"), right(secs(work.secs_left)),
    right(bytes(work.planned_memory_bytes)), work.device, work.label);
}
const workTable = (all) => table(["stage", "run", "progress", "loss", { text: "tokens", class: "r" }, { text: "left", class: "r" }, { text: "memory (plan)", class: "r" }, "device", "configuration"], all.map(workRow), { label: "running attempts" });

function sweepPage(main, name) {
  const base = "/api/sweeps/" + encodeURIComponent(name);
  const head = place(), work = place(), answers = place(), tables = place(), figures = place();
  main.append(h("h1", {}, name), head, work, answers, tables, figures);
  const runs = runList(main, base);
  const drawn = new Map();
  let shown = null;
  const results = async () => {
    const found = await get(base + "/results");
    if (found === shown) return;
    fill(answers, [found.coverage, found.claims, found.unread], () => section("Answer", h("p", {}, rich(found.coverage)),
      found.claims.length > 0 && h("ul", {}, found.claims.map((claim) => h("li", {}, rich(claim.text)))),
      found.unread.map((text) => h("p", { class: "bad" }, text))));
    fill(tables, found.tables.map((one) => one.name), () => found.tables.map((one) => {
      drawn.set(one.name, resultTable());
      return drawn.get(one.name).node;
    }));
    found.tables.forEach((one) => drawn.get(one.name)?.update(one));
    await drawFigures(figures, base, found.figures);
    shown = found;
  };
  let seen = null;
  keepLooking(async () => {
    const sweep = await get(base);
    fill(head, [sweep.states, sweep.silent, sweep.secs_left, sweep.pauses], () => {
      const counts = stateCounts(sweep);
      return [h("p", { class: "question" }, sweep.question), pausedText(sweep.pauses), bar(counts, sweep.runs), stateList(counts),
        h("p", { class: "soft" }, [counted(sweep.trials, "trial"), counted(sweep.runs, "run"), leftText(sweep)].filter(Boolean).join(" · "))];
    });
    fill(work, sweep.at_work, () => sweep.at_work.length > 0 && section("Running", workTable(sweep.at_work)));
    const state = JSON.stringify(sweep.states);
    if (state !== seen || !sweep.over) await Promise.all([runs(), results()]);
    seen = state;
    return sweep.over ? "over" : "";
  });
}

/** A number at the beginning of a cell, whatever minus it is written with. */
const leading = (text) => parseFloat(text.replace("\u2212", "-"));

/** A table of results that sorts by a column and keeps the rows that hold all words of a filter, a page at a time. */
function resultTable() {
  const MOST = 200;
  let data = null, texts = [], times = 0, by = null, back = false, page = 0;
  const body = place();
  const filter = h("input", { type: "search", placeholder: "filter, e.g. beta 0.1", "aria-label": "filter rows", oninput: () => { page = 0; draw(); } });
  const node = h("section", {}, h("h2", {}, ""), h("div", { class: "tools" }, filter), body);
  const draw = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = data.rows.filter((_, i) => words.every((word) => texts[i].some((text) => text.includes(word))));
    if (by !== null) {
      const numeric = rows.every((cells) => cells[by].missing || !Number.isNaN(leading(cells[by].text)));
      const order = (a, b) => (numeric ? leading(a[by].text) - leading(b[by].text) : a[by].text.localeCompare(b[by].text));
      // What has no value stands last, whichever way the rest goes.
      const known = rows.filter((cells) => !cells[by].missing).sort(order);
      rows = [...(back ? known.reverse() : known), ...rows.filter((cells) => cells[by].missing)];
    }
    const pages = Math.max(1, Math.ceil(rows.length / MOST));
    page = Math.min(page, pages - 1);
    const shown = rows.slice(page * MOST, (page + 1) * MOST);
    const turn = (to, word) => h("button", { type: "button", "data-key": word, onclick: () => { page = to; draw(); } }, word);
    const heads = data.columns.map((column, i) => h("th", { scope: "col", class: column.kind === "result" ? "r" : null, "aria-sort": by === i ? (back ? "descending" : "ascending") : null },
      h("button", { type: "button", "data-key": "sort" + i, onclick: () => { back = by === i && !back; by = i; page = 0; draw(); } }, column.head, by === i ? (back ? " ▾" : " ▴") : "")));
    const cellOf = (cell, i) => h("td", { class: data.columns[i].kind === "result" ? "r" : data.columns[i].kind === "words" ? "w" : null },
      cell.best ? h("strong", {}, cell.text) : cell.missing ? h("em", {}, cell.text) : cell.text);
    fill(body, [times, by, back, words, page], () => [
      table(heads, shown.map((cells) => h("tr", {}, cells.map(cellOf))), { label: data.title }),
      h("p", { class: "note" }, shown.length + " of " + counted(data.rows.length, "configuration"), ". The best of a column, and what is not clearly worse, stands out."),
      pages > 1 && h("p", { class: "tools" }, page > 0 && turn(page - 1, "Back"), " page " + (page + 1) + " of " + pages + ", " + counted(rows.length, "row") + " ", page + 1 < pages && turn(page + 1, "Next")),
      data.answer.length > 0 && h("p", {}, rich(data.answer[0])),
      data.answer.length > 1 && h("details", {}, h("summary", { "data-key": "words" }, "Every comparison in words"), h("ul", {}, data.answer.slice(1).map((line) => h("li", {}, rich(line))))),
      h("details", {}, h("summary", { "data-key": "notes" }, "How to read it"), data.notes.map((note) => h("p", { class: "note" }, note))),
    ]);
  };
  return { node, update(found) {
    if (found === data) return;
    times += 1;
    data = found;
    texts = data.rows.map((cells) => cells.map((cell, i) => (data.columns[i].head + " " + cell.text).toLowerCase()));
    node.setAttribute("aria-label", clean(found.title)); node.firstChild.textContent = clean(found.title);
    draw();
  } };
}

async function drawFigures(where, base, figures) {
  const drawings = await Promise.all(figures.map(async (figure) => {
    if (figure.missing) return null;
    const response = await fetch(base + "/figures/" + encodeURIComponent(figure.name));
    return response.ok ? response.text() : null;
  }));
  fill(where, [figures, drawings], () => figures.length > 0 && section("Figures", figures.map((figure, i) => {
    if (!drawings[i]) return h("p", { class: "soft" }, figure.title + ": " + (figure.missing || "not drawn yet"));
    const svg = new DOMParser().parseFromString(drawings[i], "image/svg+xml").documentElement;
    return h("figure", {}, document.importNode(svg, true), h("figcaption", {}, figure.caption),
      figure.findings.length > 0 && h("ul", {}, figure.findings.map((text) => h("li", {}, text))));
  })));
}

/** The runs of a sweep, a page at a time; those that are ticked are drawn side by side. */
function runList(main, base) {
  const ticked = new Map();
  let page = 0, sort = "";
  const list = place();
  const state = h("select", { "aria-label": "state", onchange: () => { page = 0; look(); } }, h("option", { value: "" }, "all states"), STATES.map(([, word]) => h("option", {}, word)));
  let typing = null;
  const text = h("input", { type: "search", placeholder: "filter, e.g. dpo beta=0.1", "aria-label": "filter runs", oninput: () => { clearTimeout(typing); typing = setTimeout(() => { page = 0; look(); }, 200); } });
  const compare = link("#", "", { class: "button", hidden: true });
  const tick = (run) => (event) => {
    if (event.target.checked) ticked.set(run.run, run.stage);
    else ticked.delete(run.run);
    compare.hidden = ticked.size === 0;
    compare.textContent = "Curves of " + counted(ticked.size, "run");
    compare.href = "/curves?" + [...ticked.keys()].map((id) => "run=" + short(id)).join("&");
  };
  const COLUMNS = [["run", "run"], ["stage", "stage"], ["state", "state"], ["label", "configuration"], ["secs", "took"], ["trials", "trials"], ["attempts", "attempts"]];
  const runRow = (run) => row(h("input", { type: "checkbox", "data-key": "tick" + run.run, "aria-label": "compare " + short(run.run), checked: ticked.has(run.run), onchange: tick(run) }),
    runLink(run.run), run.stage, stateMark(run.state), h("td", {}, run.label, run.message && h("span", { class: "bad" }, " " + run.message)), right(secs(run.secs)), right(run.trials), right(run.attempts));
  const turn = (to, word) => h("button", { type: "button", "data-key": word, onclick: () => { page = to; look(); } }, word);
  const look = async () => {
    const found = await get(base + "/runs" + query({ page, sort, state: state.value, text: text.value }));
    const pages = Math.max(1, Math.ceil(found.matched / found.size));
    const heads = COLUMNS.map(([key, word]) => h("th", { scope: "col", class: ["trials", "attempts", "secs"].includes(key) ? "r" : null, "aria-sort": sort === key ? "ascending" : sort === "-" + key ? "descending" : null },
      h("button", { type: "button", "data-key": "by" + key, onclick: () => { sort = sort === key ? "-" + key : key; page = 0; look(); } }, word, sort === key ? " ▴" : sort === "-" + key ? " ▾" : "")));
    fill(list, [found, sort], () => [table([h("th", { scope: "col" }, h("span", { class: "hidden" }, "compare")), ...heads], found.runs.map(runRow), { label: "runs" }),
      h("p", { class: "tools" }, page > 0 && turn(page - 1, "Back"), " page " + (page + 1) + " of " + pages + ", " + counted(found.matched, "run") + " ", page + 1 < pages && turn(page + 1, "Next"))]);
  };
  main.append(section("Runs", h("div", { class: "tools" }, text, state, compare), list));
  return look;
}

// ---- curves ----

const CURVES = ["loss", "rewards/margins", "rewards/accuracies", "learning_rate", "grad_norm", "mean_token_accuracy"];
const rank = (key) => (CURVES.indexOf(key) + 1 || CURVES.length + 1 + (key.includes("/") ? 1 : 0));

function ticks(low, high, most) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((n) => n * power >= raw * 0.999) * power;
  const all = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) all.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return all;
}
const tickText = (value) => (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(0) : String(+value.toPrecision(4)));

/** One metric of several runs over steps. Drag or `+`, `-` and arrows zoom, double click or `0` shows all. */
function curve(metric, runs) {
  const W = 480, H = 240, L = 56, R = 12, T = 12, B = 28;
  const svg = h("svg", { class: "curve", viewBox: "0 0 " + W + " " + H, tabindex: 0, role: "img", "aria-label": metric + " over steps; plus, minus and arrows zoom, 0 shows all" });
  const read = h("p", { class: "note readout", "aria-live": "polite" });
  const node = h("figure", { class: "plot" }, h("figcaption", {}, metric), svg, read);
  let window_ = null, full = null, curves = [], drag = null;
  const x = (step) => L + ((step - view()[0]) / (view()[1] - view()[0] || 1)) * (W - L - R);
  const view = () => window_ || full || [0, 1];
  const stepAt = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * W;
    return view()[0] + ((at - L) / (W - L - R)) * (view()[1] - view()[0]);
  };
  const draw = () => {
    const points = curves.flatMap((one) => one.points.map((p) => p[1])).filter(Number.isFinite);
    svg.replaceChildren();
    node.hidden = points.length === 0 && !window_;
    if (points.length === 0) return;
    let low = Math.min(...points), high = Math.max(...points);
    if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
    const y = (value) => T + (1 - (value - low) / (high - low)) * (H - T - B);
    for (const value of ticks(low, high, 6)) svg.append(h("line", { class: "grid", x1: L, x2: W - R, y1: y(value), y2: y(value) }), h("text", { x: L - 6, y: y(value) + 4, "text-anchor": "end" }, tickText(value)));
    for (const step of ticks(...view(), 5).filter(Number.isInteger)) svg.append(h("text", { x: x(step), y: H - 8, "text-anchor": "middle" }, tickText(step)));
    curves.forEach((one, i) => {
      const path = one.points.filter((p) => Number.isFinite(p[1])).map((p, j) => (j ? "L" : "M") + x(p[0]).toFixed(1) + " " + y(p[1]).toFixed(1)).join("");
      svg.append(h("path", { class: "line c" + (i % 8), d: path }));
      if (one.points.length === 1) svg.append(h("circle", { class: "dot c" + (i % 8), cx: x(one.points[0][0]), cy: y(one.points[0][1]), r: 3 }));
    });
  };
  const look = async () => {
    const range = window_ ? { from: Math.max(0, Math.floor(window_[0])), to: Math.ceil(window_[1]) } : {};
    curves = await Promise.all(runs.map((run) => get("/api/runs/" + run + "/steps" + query({ metric, points: 600, ...range }))));
    if (!window_) {
      const steps = curves.flatMap((one) => one.points.map((p) => p[0]));
      full = steps.length ? [Math.min(...steps), Math.max(...steps)] : null;
    }
    draw();
  };
  const zoom = (from, to) => {
    if (!full) return;
    const least = Math.max(from, full[0]), most = Math.min(to, full[1]);
    window_ = most - least < 1 || (least <= full[0] && most >= full[1]) ? (most - least < 1 ? window_ : null) : [least, most];
    look().catch(() => {});
  };
  svg.addEventListener("keydown", (event) => {
    const [from, to] = view(), span = to - from;
    const moves = { "+": [span * 0.2, -span * 0.2], "=": [span * 0.2, -span * 0.2], "-": [-span * 0.34, span * 0.34], ArrowLeft: [-span * 0.2, -span * 0.2], ArrowRight: [span * 0.2, span * 0.2] };
    if (event.key === "0") zoom(-Infinity, Infinity);
    else if (moves[event.key]) zoom(from + moves[event.key][0], to + moves[event.key][1]);
    else return;
    event.preventDefault();
  });
  svg.addEventListener("pointerdown", (event) => { drag = stepAt(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointerup", (event) => {
    const end = stepAt(event);
    if (drag !== null && Math.abs(end - drag) > (view()[1] - view()[0]) * 0.03) zoom(Math.min(drag, end), Math.max(drag, end));
    drag = null;
    svg.querySelector(".mark")?.remove();
  });
  svg.addEventListener("dblclick", () => zoom(-Infinity, Infinity));
  svg.addEventListener("pointermove", (event) => {
    const at = stepAt(event);
    if (drag !== null) {
      svg.querySelector(".mark")?.remove();
      svg.append(h("rect", { class: "mark", x: Math.min(x(drag), x(at)), y: T, width: Math.abs(x(drag) - x(at)), height: H - T - B }));
    }
    const near = curves.map((one) => one.points.reduce((best, p) => (best === null || Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best), null));
    const told = near.map((p, i) => p && (runs.length > 1 ? short(curves[i].run) + " " : "") + measured(p[1]) + " at step " + p[0]).filter(Boolean);
    read.textContent = told.slice(0, 4).join(" · ");
  });
  return { node, look };
}

/** Curves of every metric that the runs have; which are shown is ticked. */
function curveGrid(runs, chosen) {
  const menu = h("fieldset", { class: "menu" }, h("legend", {}, "metrics")), grid = h("div", { class: "plots" });
  const shown = new Map();
  let known = "";
  const show = (key, on) => {
    if (on && !shown.has(key)) {
      shown.set(key, curve(key, runs));
      shown.get(key).look().catch(() => {});
    } else if (!on) shown.delete(key);
    grid.replaceChildren(...[...shown.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b)).map((k) => shown.get(k).node));
  };
  const look = async () => {
    const found = await Promise.all(runs.map((run) => get("/api/runs/" + run + "/steps?points=2")));
    const keys = [...new Set(found.flatMap((one) => one.metrics))].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    if (keys.join() !== known) {
      known = keys.join();
      const wanted = (key) => shown.has(key) || (chosen ? chosen.includes(key) : CURVES.includes(key));
      menu.replaceChildren(h("legend", {}, "metrics"), ...keys.map((key) => h("label", {}, h("input", { type: "checkbox", checked: wanted(key), onchange: (event) => show(key, event.target.checked) }), key)));
      keys.filter(wanted).forEach((key) => show(key, true));
    } else await Promise.all([...shown.values()].map((one) => one.look()));
    return keys.length;
  };
  return { node: h("div", {}, grid, h("details", {}, h("summary", {}, "More metrics"), menu)), look };
}

function curvesPage(main, asked) {
  const runs = [...new Set(asked.getAll("run"))].slice(0, 16);
  const legend = place();
  const add = h("input", { type: "text", placeholder: "run id", "aria-label": "another run", pattern: "[0-9a-fA-F]+" });
  const form = h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); if (add.value) location.search = [...runs, add.value.trim()].map((id) => "run=" + encodeURIComponent(id)).join("&"); } }, add, h("button", {}, "Add"));
  const grid = curveGrid(runs, asked.getAll("metric").length ? asked.getAll("metric") : null);
  main.append(h("h1", {}, "Curves"), legend, form, grid.node);
  if (runs.length === 0) legend.append(h("p", {}, "Tick runs in a sweep's list, or name one here."));
  keepLooking(async () => {
    const all = await Promise.all(runs.map((run) => get("/api/runs/" + run)));
    fill(legend, all.map((one) => [one.run.id, one.state, one.label]), () => h("ul", { class: "legend" }, all.map((one, i) => h("li", {},
      h("span", { class: "key c" + (i % 8) }), one.run.kind + " ", runLink(one.run.id), " ", stateMark(one.state), " ", one.label || "",
      " ", link("/curves?" + runs.filter((_, j) => j !== i).map((id) => "run=" + encodeURIComponent(id)).join("&"), "leave out", { "aria-label": "leave out " + short(one.run.id) })))));
    await grid.look();
    return all.every((one) => one.at_work === null) ? "over" : "";
  });
}

// ---- a run ----

/** A document as nested lists of names and values. */
function tree(value) {
  if (Array.isArray(value) && value.every((item) => item === null || typeof item !== "object")) return value.map((item) => (typeof item === "string" && item.length === 64 ? short(item) : String(item))).join(", ");
  if (value === null || typeof value !== "object") return typeof value === "string" && value.length === 64 ? short(value) : String(value);
  return h("dl", {}, Object.entries(value).map(([key, inner]) => [h("dt", {}, key), h("dd", {}, tree(inner))]));
}

function metricTable(metrics) {
  const rows = Object.entries(metrics).map(([key, m]) => row(key, right(measured(m.value)), right(m.stderr === undefined || m.stderr === null ? "" : "± " + measured(m.stderr)), right(m.n)));
  return table(["metric", { text: "value", class: "r" }, { text: "standard error", class: "r" }, { text: "n", class: "r" }], rows, { label: "final metrics" });
}

function attemptRow(a) {
  const u = a.usage;
  return row(right(a.number), a.state, a.device, time(a.started), right(a.ended === null ? "" : secs((a.ended - a.started) / 1000)),
    right(u ? si(u.tokens) : ""), right(u ? bytes(u.peak_memory_bytes) : ""), right(u && u.device_memory_bytes ? bytes(u.device_memory_bytes) : ""), h("td", { class: "w" }, a.message || ""));
}

function runPage(main, id) {
  const base = "/api/runs/" + encodeURIComponent(id);
  const head = place(), work = place(), numbers = place(), rest = place(), log = place();
  const curves = section("Curves"), samples = sampleList(base);
  const grid = curveGrid([encodeURIComponent(id)], null);
  curves.append(h("p", { class: "tools" }, link("/curves?run=" + encodeURIComponent(id), "Compare with other runs", { class: "button" })), grid.node);
  curves.hidden = true;
  main.append(head, work, curves, numbers, samples.node, section("Log", log), rest);
  let seen = null;
  keepLooking(async () => {
    const run = await get(base);
    document.title = clean(run.run.kind + " " + short(run.run.id) + " – lions");
    fill(head, [run.state, run.why, run.label, run.trials], () => [
      h("h1", {}, run.run.kind + " ", h("span", { class: "id" }, short(run.run.id)), " ", stateMark(run.state)),
      h("p", { class: "question" }, run.label || ""),
      run.why.length > 0 && run.state !== "running" && h("ul", { class: run.state === "failed" ? "bad" : null }, run.why.map((text) => h("li", {}, text))),
      h("p", { class: "soft" }, "used by ", run.trials.slice(0, 5).map((trial, i) => [i > 0 && ", ", sweepLink(trial.sweep), " trial " + trial.index]), run.trials.length > 5 && " and " + (run.trials.length - 5) + " more"),
    ]);
    fill(work, run.at_work, () => run.at_work && section("Running", workTable([run.at_work])));
    const state = JSON.stringify([run.state, run.run.attempts]);
    if (state !== seen || run.at_work) {
      curves.hidden = (await grid.look()) === 0;
      const said = await get(base + "/log");
      fill(log, said, () => [["stdout", said.stdout], ["stderr", said.stderr]].filter(([, lines]) => lines.length).map(([name, lines]) => h("div", {}, h("h3", {}, name + ", attempt " + said.attempt), h("pre", { tabindex: 0 }, lines.join("\n")))).concat(said.stdout.length + said.stderr.length ? [] : [h("p", { class: "soft" }, "Nothing was written.")]));
    }
    if (state !== seen && run.samples) samples.look();
    seen = state;
    fill(numbers, run.metrics, () => Object.keys(run.metrics).length > 0 && section("Metrics", metricTable(run.metrics)));
    fill(rest, [run.counts, run.attempts, run.artifacts, run.identity], () => [
      section("Attempts", table([{ text: "number", class: "r" }, "state", "device", "began", { text: "took", class: "r" }, { text: "tokens", class: "r" }, { text: "memory", class: "r" }, { text: "on the device", class: "r" }, ""], run.attempts.map(attemptRow), { label: "attempts" })),
      section("Recipe", h("details", { open: true }, h("summary", {}, "What its id is made of"), h("div", { class: "tree" }, tree(run.identity))),
        run.inputs.length > 0 && h("p", {}, "inputs: ", run.inputs.map((input, i) => [i > 0 && ", ", input.stage + " ", runLink(input.run)]))),
      (Object.keys(run.counts).length > 0 || run.notes.length > 0) && section("Data", table(["count", { text: "", class: "r" }], Object.entries(run.counts).map(([name, n]) => row(name.replaceAll("_", " "), right(n))), { label: "data counts" }), run.notes.map((note) => h("p", { class: "note" }, marked(note)))),
      run.artifacts.length > 0 && section("Artifacts", h("p", { class: "note" }, run.folder), table(["file", { text: "size", class: "r" }, "digest"], run.artifacts.map((a) => row(a.path, right(bytes(a.bytes)), a.digest.slice(0, 12))), { label: "artifacts" })),
    ]);
    return run.at_work === null ? "over" : "";
  });
}

const LONG = new Set(["prompt", "text", "replies", "messages", "chosen", "rejected", "response"]);

/** A stored sample: its texts whole, its other values in a line. */
function sampleCard(sample) {
  if (typeof sample !== "object" || sample === null) return h("article", { class: "card" }, h("pre", {}, String(sample)));
  const entries = Object.entries(sample);
  const isText = ([key, value]) => LONG.has(key) || (typeof value === "string" && value.length > 80);
  const flat = ([key, value]) => (value && typeof value === "object" ? Object.entries(value).map(([k, v]) => k + " " + (typeof v === "number" ? measured(v) : JSON.stringify(v))).join(", ") : key + " " + value);
  return h("article", { class: "card" }, h("p", { class: "note" }, entries.filter((e) => !isText(e)).map(flat).join(" · ")),
    entries.filter(isText).map(([key, value]) => h("div", { class: "sample" }, h("h3", {}, key), (Array.isArray(value) ? value : [value]).map((one) => h("p", { class: "reply" }, typeof one === "string" ? one : JSON.stringify(one, null, 1))))));
}

function sampleList(base) {
  let page = 0, typing = null;
  const list = place();
  const text = h("input", { type: "search", placeholder: "filter samples", "aria-label": "filter samples", oninput: () => { clearTimeout(typing); typing = setTimeout(() => { page = 0; look(); }, 200); } });
  const node = section("Samples", h("div", { class: "tools" }, text), list);
  node.hidden = true;
  const turn = (to, word) => h("button", { type: "button", "data-key": word, onclick: () => { page = to; look(); } }, word);
  const look = async () => {
    const found = await get(base + "/samples" + query({ page, text: text.value, size: 10 }));
    const pages = Math.max(1, Math.ceil(found.matched / found.size));
    node.hidden = false;
    fill(list, found, () => [found.samples.map(sampleCard), h("p", { class: "tools" }, page > 0 && turn(page - 1, "Back"), " page " + (page + 1) + " of " + pages + ", " + counted(found.matched, "sample") + " ", page + 1 < pages && turn(page + 1, "Next"))]);
  };
  return { node, look };
}

// ---- which page ----

const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
const main = document.getElementById("main");
main.replaceChildren();
const where = document.getElementById("where");
if (parts[0] === "sweeps") {
  where.append(" / " + clean(parts[1]));
  document.title = clean(parts[1] + " – lions");
  sweepPage(main, parts[1]);
} else if (parts[0] === "runs") {
  where.append(" / run " + clean(short(parts[1])));
  runPage(main, parts[1]);
} else if (parts[0] === "curves") {
  where.append(" / curves");
  document.title = "curves – lions";
  curvesPage(main, new URLSearchParams(location.search));
} else sweepsPage(main);
