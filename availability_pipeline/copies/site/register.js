// The pages of the register. Every text of a document is put in as text, every path is checked.
"use strict";
(() => {
const ROOT = document.body.dataset.root;
const DATASET = document.body.dataset.dataset;
const FORMAT = 1;
const OLD_HOURS = 36;         // an update comes every day
const MOST_HOLES = 5000;
const MOST_NAME = 1024;       // of a key in S3
const MARKETS = {spot: "Spot", um: "USD-M futures", cm: "COIN-M futures", option: "Options"};
const NONE = "\u2013";        // where there is nothing, or nothing is known
const LETTERS = "ceipmsu";
// In the order of the legend.
const statesOf = share => ({
  c: "complete", m: `met: some are missing, at least ${share} are there`, s: `short: below ${share}`,
  e: "nearly empty: below half", p: "pending: files are missing, too early to say",
  u: "unknown: never probed", i: "idle: probed, no file expected",
});
const SHORT = {c: "complete", m: "met", s: "short", e: "nearly empty", p: "pending",
               u: "unknown: never probed", i: "idle: no file expected"};

// --- elements -----------------------------------------------------------------------------------

const byId = id => document.getElementById(id);

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
const h = (name, attributes, ...children) =>
  filled(document.createElement(name), attributes, children);
const s = (name, attributes, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
// A name from outside keeps its direction to itself.
const named = text => h("bdi", null, String(text));

// --- what is said -------------------------------------------------------------------------------

const NUMBER = new Intl.NumberFormat("en-US");
const isNumber = value => typeof value === "number" && Number.isFinite(value);
const isText = value => typeof value === "string";
const list = value => Array.isArray(value) ? value : [];
const entries = value => value && typeof value === "object" ? Object.entries(value) : [];
const count = value => isNumber(value) ? NUMBER.format(value) : NONE;
const text = value => isText(value) && value !== "" ? value : NONE;
const counted = (value, one, many) => `${count(value)} ${value === 1 ? one : many ?? one + "s"}`;
const period = text;

function size(bytes) {
  if (!isNumber(bytes)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  const digits = unit === 0 || bytes >= 99.95 ? 0 : 1;
  return `${bytes.toLocaleString("en-US", {minimumFractionDigits: digits,
    maximumFractionDigits: digits})} ${units[unit]}`;
}
// 100 only when nothing is missing.
const percent = share => !isNumber(share) ? NONE
  : share >= 1 ? "100%" : `${(Math.min(share, 0.9999) * 100).toFixed(2)}%`;
const instant = value => isText(value) && /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value)
  ? `${value.slice(0, 10)} ${value.slice(11, 16)} UTC` : text(value);
const span = (first, last) => first === last || !last ? period(first)
  : `${period(first)} to ${period(last)}`;

function hoursSince(value) {
  const then = Date.parse(value);
  return Number.isNaN(then) ? null : (Date.now() - then) / 3.6e6;
}
function ago(hours) {
  if (hours < 1) return "less than an hour ago";
  return hours < 48 ? `${counted(Math.floor(hours), "hour")} ago`
    : `${counted(Math.floor(hours / 24), "day")} ago`;
}

// --- paths and documents ------------------------------------------------------------------------

class Failure extends Error {}

// Below the site's root and nowhere else, whatever a document says.
function address(path) {
  const parts = isText(path) ? path.split("/") : [""];
  if (parts.some(part => part === "" || part === "." || part === ".." || part.includes("\\"))) {
    throw new Failure(`a document names a path that cannot be in this site (${String(path)
      .slice(0, 80)}). Tell whoever publishes it.`);
  }
  return ROOT + parts.map(part => encodeURIComponent(part).replaceAll("%3D", "=")).join("/");
}
const symbolPage = name => `${ROOT}symbol.html?name=${encodeURIComponent(name)}`;
const datasetPage = (name, symbol) =>
  address(`${name}/index.html`) + (symbol === undefined ? "" : `#${encodeURIComponent(symbol)}`);

async function load(path) {
  const url = address(path);
  let answer;
  try {
    answer = await fetch(url, {cache: path === "latest.json" ? "no-cache" : "default"});
  } catch {
    throw new Failure(location.protocol === "file:"
      ? "A page that is opened as a file cannot load the data. Serve the folder, for example " +
        "with: python3 -m http.server"
      : `${path} could not be fetched. Check the connection, then reload the page.`);
  }
  if (!answer.ok) {
    throw new Failure(`${path} could not be fetched: the server answered ${answer.status}. ` +
      (path === "latest.json" ? "Nothing may be published here yet; try again later."
        : "A newer publication may have taken its place: reload the page."));
  }
  let found;
  try {
    found = await answer.json();
  } catch {
    throw new Failure(`${path} is not whole. Reload the page; if this stays, the site is damaged.`);
  }
  if (found?.format !== FORMAT) {
    throw new Failure(`${path} has format ${String(found?.format).slice(0, 20)}, this page reads ` +
      `format ${FORMAT}. Reload the page without the cache (Ctrl-Shift-R).`);
  }
  return found;
}

const failed = error => {
  if (!(error instanceof Failure)) console.error(error);
  return h("p", {class: "failed", role: "alert"}, error instanceof Failure ? error.message
    : `This part could not be shown (${error.message}). Reload the page; the JSON documents ` +
      "have the same data.");
};

// One part of the page that fails leaves the others alone.
async function part(id, fill) {
  const place = byId(id);
  try {
    place.replaceChildren(...[await fill()].flat().filter(one => one !== null));
  } catch (error) {
    place.replaceChildren(failed(error));
  }
}

// What is far below and may be large is fetched when the reader comes near it, or prints.
function whenNear(id, fill) {
  const place = byId(id);
  place.replaceChildren(h("p", null, "Loading\u2026"));
  let begun = false;
  const observer = new IntersectionObserver(found => {
    if (found.some(one => one.isIntersecting)) begin();
  }, {rootMargin: "500px"});
  function begin() {
    observer.disconnect();
    if (!begun) part(id, fill);
    begun = true;
  }
  observer.observe(place);
  addEventListener("beforeprint", begin);
}

function sayFresh(lastProbe, publishedAt) {
  const place = byId("fresh"), hours = hoursSince(lastProbe);
  const published = publishedAt ? `, published ${instant(publishedAt)}` : "";
  place.classList.toggle("old", hours === null || hours > OLD_HOURS);
  place.textContent = hours === null ? `Nothing has been probed yet${published}.`
    : `Last probe ${instant(lastProbe)}, ${ago(hours)}${published}.` + (hours > OLD_HOURS
      ? " This is old: what came to the archive since then is unknown here." : "");
}

function numbers(pairs) {
  byId("numbers").replaceChildren(...pairs.map(([name, value]) =>
    h("div", null, h("dt", null, name),
      // A date is not broken at its hyphens.
      h("dd", null, ...value.split(" ").flatMap(word => [h("span", null, word), " "])))));
}

// --- tables -------------------------------------------------------------------------------------

const wide = (label, inner) => h("div", {class: "wide", tabindex: "0", role: "region",
  "aria-label": label}, inner);

function before(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;     // unknown comes last, whichever way
  if (b === null || b === undefined) return -1;
  return a < b ? -1 : 1;
}

// columns: {name, cell(row), value(row), number, title}. The first is the row's header.
function table(label, columns, rows) {
  const body = h("tbody"), all = [];
  for (const row of rows) {
    const line = h("tr", null, ...columns.map((column, n) => {
      const cell = document.createElement(n === 0 ? "th" : "td");
      if (n === 0) cell.scope = "row";
      const kind = [column.number ? "n" : "", column.kind?.(row) ?? ""].join(" ").trim();
      if (kind) cell.className = kind;
      cell.append(column.cell(row));
      return cell;
    }));
    all.push({row, line, detail: null});
  }
  body.append(...all.map(one => one.line));
  const heads = columns.map(column => {
    const button = h("button", {type: "button", title: column.title}, column.name);
    const head = h("th", {scope: "col", "aria-sort": "none", class: column.number ? "n" : null},
      button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const down = now === "none" ? Boolean(column.number) : now === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      all.sort((one, two) => {
        const a = column.value(one.row), b = column.value(two.row);
        const nothing = a === null || a === undefined || b === null || b === undefined;
        return down && !nothing ? before(b, a) : before(a, b);
      });
      body.append(...all.flatMap(one => one.detail ? [one.line, one.detail] : [one.line]));
    });
    return head;
  });
  const made = h("table", null, h("thead", null, h("tr", null, ...heads)), body);
  return {node: wide(label, made), all, columns: columns.length,
    show(test) {
      let shown = 0;
      for (const one of all) {
        const fits = test(one.row);
        one.line.hidden = !fits;
        if (one.detail) one.detail.hidden = !fits;
        shown += fits;
      }
      return shown;
    }};
}

function field(label, input) {
  return h("label", null, label, input);
}
function choice(label, values) {
  const made = h("select", null, h("option", {value: ""}, "all"),
    ...values.map(([value, shown]) => h("option", {value}, shown)));
  return {node: field(label, made), get value() { return made.value; }, made};
}
const distinct = (rows, value) => [...new Set(rows.map(value).filter(isText))].sort();

// --- finding a symbol ---------------------------------------------------------------------------

let symbolsRead = null;
const allSymbols = latest => symbolsRead ??= load(latest.documents.symbols).catch(error => {
  symbolsRead = null;
  throw error;
});

function matching(names, typed) {
  const wanted = typed.trim().toUpperCase();
  if (!wanted) return [];
  const starts = [], holds = [];
  for (const name of names) {
    const at = name.toUpperCase().indexOf(wanted);
    if (at === 0) starts.push(name);
    else if (at > 0) holds.push(name);
  }
  return [...starts, ...holds];
}

function distance(a, b) {
  let row = Array.from({length: b.length + 1}, (_, n) => n);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1])));
    }
    row = next;
  }
  return row[b.length];
}

function nearest(names, wanted) {
  const asked = wanted.toUpperCase().slice(0, 40);
  const near = matching(names, asked).slice(0, 8);
  if (near.length < 8 && asked) {
    const scored = names.filter(name => !near.includes(name))
      .map(name => [distance(asked, name.toUpperCase().slice(0, 40)), name])
      .filter(([far]) => far <= Math.max(2, asked.length / 2));
    scored.sort((one, two) => one[0] - two[0] || before(one[1], two[1]));
    near.push(...scored.slice(0, 8 - near.length).map(([, name]) => name));
  }
  return near;
}

function finder(latest) {
  const input = h("input", {type: "search", id: "find-input", role: "combobox", maxlength: "100",
    autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
    "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list",
    "aria-describedby": "find-help", placeholder: "BTCUSDT"});
  const found = h("ul", {id: "found", role: "listbox", "aria-label": "Symbols found"});
  found.hidden = true;
  const note = h("p", {id: "find-help", role: "status"},
    "Type a part of its name; arrow keys choose, Enter opens it with all its datasets.");
  let names = null, hits = [], chosen = -1;
  const go = name => { location.href = symbolPage(name); };
  function close() {
    found.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }
  function choose(n) {
    const options = found.querySelectorAll("[role=option]");
    if (!options.length) return;
    chosen = (n + options.length) % options.length;
    options.forEach((option, m) => option.setAttribute("aria-selected", String(m === chosen)));
    options[chosen].scrollIntoView({block: "nearest"});
    input.setAttribute("aria-activedescendant", options[chosen].id);
  }
  async function search() {
    try {
      names ??= list((await allSymbols(latest)).symbols).filter(isText);
    } catch (error) {
      note.replaceChildren(failed(error));
      return;
    }
    hits = matching(names, input.value);
    close();
    if (!input.value.trim()) return;
    note.textContent = hits.length ? counted(hits.length, "symbol")
      : "Not recorded. Enter shows the nearest names.";
    if (!hits.length) return;
    found.replaceChildren(...hits.slice(0, 50).map((name, n) => {
      const option = h("li", {role: "option", id: `found-${n}`, "aria-selected": "false"},
        named(name));
      option.addEventListener("pointerdown", event => { event.preventDefault(); go(name); });
      return option;
    }));
    found.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }
  input.addEventListener("focus", () => { allSymbols(latest).catch(() => {}); });
  input.addEventListener("input", search);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async event => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (found.hidden) await search();
      if (event.key === "ArrowDown") choose(chosen + 1);
      else choose(chosen < 0 ? -1 : chosen - 1);
    } else if (event.key === "Escape") {
      close();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const typed = input.value.trim();
      if (!typed) return;
      if (chosen >= 0) { go(hits[chosen]); return; }
      await search();
      const exact = hits.find(name => name.toUpperCase() === typed.toUpperCase());
      go(exact ?? (hits.length === 1 ? hits[0] : typed));
    }
  });
  return h("div", {class: "find"}, h("label", {for: "find-input"}, "Symbol"), input, found, note);
}

// --- news ---------------------------------------------------------------------------------------

function newsList(items, most, inDataset) {
  if (!items.length) return [h("p", null, "Nothing has been reported yet.")];
  const line = one => {
    const only = one.count === 1 ? list(one.symbols).find(isText) : undefined;
    const said = named(text(one.text));
    return h("li", null, h("time", {datetime: text(one.at)}, instant(one.at)), " ",
      inDataset ? null : h("a", {href: datasetPage(one.dataset)}, text(one.dataset)),
      inDataset ? null : " ", only === undefined ? said
        : h("a", {href: inDataset ? `#${encodeURIComponent(only)}`
          : datasetPage(one.dataset, only)}, said));
  };
  const made = [h("ul", null, ...items.slice(0, most).map(line))];
  if (items.length > most) {
    made.push(h("details", null, h("summary", null, `${count(items.length - most)} earlier`),
      h("ul", null, ...items.slice(most).map(line))));
  }
  return made;
}

// --- index.html ---------------------------------------------------------------------------------

const JUDGED = 0.95;

async function indexPage() {
  const latest = await load("latest.json");
  sayFresh(latest.last_probe, latest.published_at);
  byId("find").replaceChildren(finder(latest));
  await part("datasets", async () => {
    const datasets = list((await load(latest.documents.datasets)).datasets);
    const sum = name => datasets.reduce((total, one) => total + (one[name] || 0), 0);
    numbers([["Datasets", count(datasets.length)], ["Files", count(sum("files"))],
      ["Size", size(sum("bytes"))], ["Holes", count(sum("holes"))],
      ["Pending", count(sum("pending"))]]);
    const plain = (name, title) => ({name, title, number: true,
      cell: one => count(one[name.toLowerCase()]), value: one => one[name.toLowerCase()]});
    const date = (name, key, title) => ({name, title, cell: one => period(one[key]),
      value: one => one[key]});
    const made = table("Datasets", [
      {name: "Dataset", value: one => one.dataset,
       cell: one => h("a", {href: datasetPage(one.dataset)}, named(text(one.dataset)))},
      {name: "State", cell: one => text(one.lifecycle), value: one => one.lifecycle},
      date("Probed from", "first"), date("Probed to", "last"),
      date("Settled to", "last_settled", "Up to here every missing file is absent, not pending"),
      plain("Symbols"), plain("Live", "Symbols that still get files"), plain("Files"),
      {name: "Size", number: true, cell: one => size(one.bytes), value: one => one.bytes},
      plain("Holes", "Files confirmed absent between a symbol's first and last file"),
      plain("Pending", "Files that are missing, when it is too early to say"),
      {name: "Completeness", number: true, title: "Over the last 30 settled dates or months",
       cell: one => percent(one.completeness), value: one => one.completeness,
       kind: one => one.lifecycle === "live" && isNumber(one.completeness) &&
         one.completeness < JUDGED ? "bad" : ""},
    ], datasets);
    for (const {row, line} of made.all) line.classList.toggle("off", row.lifecycle !== "live");
    const input = h("input", {type: "search", placeholder: "um daily klines", spellcheck: "false"});
    const said = h("p", {role: "status"}, counted(datasets.length, "dataset"));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = made.show(one => words.every(word =>
        `${one.dataset} ${one.lifecycle}`.toLowerCase().includes(word)));
      said.textContent = `${count(shown)} of ${counted(datasets.length, "dataset")}`;
    });
    return [h("div", {class: "controls"}, field("Filter", input)), said, made.node,
      h("p", null, "live: files still come. stopped: no more come. removed: taken out of the " +
        "archive. unlisted: not in our catalogue. Completeness: of the files expected on the " +
        "last 30 settled dates or months, the share that is there. Settled: late enough that a " +
        "missing file is absent, and not only pending.")];
  });
  whenNear("news", async () => newsList(list((await load(latest.documents.news)).news), 20));
}

// --- a dataset's periods ------------------------------------------------------------------------

const DAY = 864e5;
const monthly = days => days.unit === "month";
function startOf(days) {
  const [year, month, day] = days.first.split("-").map(Number);
  return {year, month: month - 1, time: Date.UTC(year, month - 1, day || 1)};
}
function periodsOf(days) {
  const start = startOf(days), all = [];
  for (let n = 0; n < days.states.length; n += 1) {
    all.push(monthly(days)
      ? new Date(Date.UTC(start.year, start.month + n, 1)).toISOString().slice(0, 7)
      : new Date(start.time + n * DAY).toISOString().slice(0, 10));
  }
  return all;
}
const letter = (days, n) => LETTERS.includes(days.states[n]) ? days.states[n] : "u";

function described(days, periods, n) {
  const state = letter(days, n), at = name => list(days[name])[n];
  const parts = [`${periods[n]}: ${SHORT[state]}`];
  if (isNumber(at("expected")) && at("expected") > 0) {
    parts.push(`${count(at("available"))} of ${counted(at("expected"), "expected file")} there`);
  } else if (at("available")) {
    parts.push(counted(at("available"), "file"));
  }
  if (at("absent")) parts.push(`${count(at("absent"))} absent`);
  if (at("pending")) parts.push(`${count(at("pending"))} pending`);
  if (at("bytes")) parts.push(size(at("bytes")));
  if (isNumber(at("lag_p50_hours"))) {
    const hours = at("lag_p50_hours");
    parts.push(`half of the files came within ${hours < 48 ? `${hours.toFixed(1)} h`
      : `${(hours / 24).toFixed(1)} days`} after its end`);
  }
  return parts.join(", ");
}

function runsOf(days, wanted) {
  const runs = [];
  for (let n = 0; n < days.states.length; n += 1) {
    const state = letter(days, n);
    if (!wanted.includes(state)) continue;
    const last = runs.at(-1);
    if (last && last.state === state && last.to === n - 1) last.to = n;
    else runs.push({state, from: n, to: n});
  }
  return runs;
}

function legend(days) {
  const present = new Set(days.states);
  const words = statesOf(`${Math.round(days.threshold * 1000) / 10}%`);
  return h("div", {class: "key"}, ...Object.keys(words).filter(state => present.has(state))
    .map(state => h("span", null, s("svg", {viewBox: "0 0 13 13", "aria-hidden": "true"},
      s("rect", {width: 13, height: 13, rx: 2, class: `s-${state}`})), words[state])));
}

// Arrow keys and the mouse go over the periods of a picture; what is under them is said below.
function explorable(svg, said, {nth, step, mark, say}) {
  let now = null;
  const show = n => {
    if (n === null) return;
    now = n;
    mark(n);
    said.textContent = say(n);
  };
  svg.addEventListener("pointermove", event => show(nth(event)));
  svg.addEventListener("click", event => show(nth(event)));
  svg.addEventListener("keydown", event => {
    const by = step(event.key, now);
    if (by === null) return;
    event.preventDefault();
    show(by);
  });
}

const steps = (sizes, most) => (key, now) => {
  if (key === "Home") return 0;
  if (key === "End") return most;
  if (!(key in sizes)) return null;
  return now === null ? most : Math.min(most, Math.max(0, now + sizes[key]));
};

function inside(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left) * view.width / box.width,
          (event.clientY - box.top) * view.height / box.height];
}

function niceStep(most, ticks) {
  const rough = Math.max(most / ticks, 1), power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(n => n * power).find(one => one >= rough);
}

function growth(days, periods) {
  const total = days.states.length;
  // Before the first file there is nothing to see.
  const begin = Math.max(0, periods.findIndex((_, n) => letter(days, n) !== "i"));
  const expected = list(days.expected), available = list(days.available);
  const most = [...expected, ...available].reduce((top, one) => Math.max(top, one || 0), 1);
  const step = steps({ArrowLeft: -1, ArrowRight: 1, ArrowDown: -30, ArrowUp: 30, PageUp: -365,
    PageDown: 365}, total - 1 - begin);
  const figure = h("figure"), said = h("output", {class: "said"},
    "Move over the picture, or use the arrow keys in it, for the numbers of a " +
    `${monthly(days) ? "month" : "date"}.`);
  const gap = runsOf(days, "u");
  const summary = `Symbols with a file from ${periods[begin]} to ${periods[total - 1]}, at most ` +
    `${count(most)}` + (gap.length ? `; ${counted(gap.length, "stretch", "stretches")} never probed`
      : "");
  function draw() {
    const width = Math.max(280, Math.round(figure.clientWidth)), height = width < 500 ? 200 : 260;
    const left = 46, right = width - 8, top = 10, bottom = height - 24;
    const x = n => left + (right - left) * (total - begin > 1 ? (n - begin) / (total - 1 - begin)
      : 0.5);
    const y = value => bottom - (bottom - top) * value / most;
    const svg = s("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0",
      "aria-label": summary});
    for (let value = 0, step = niceStep(most, 5); value <= most; value += step) {
      svg.append(s("line", {class: "grid", x1: left, x2: right, y1: y(value), y2: y(value)}),
        s("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end", "font-size": 11},
          count(value)));
    }
    // Years, or months where there are few; as many as have room.
    const short = total - begin < (monthly(days) ? 30 : 800);
    const marks = periods.map((one, n) => [one, n]).slice(begin).filter(([one]) => monthly(days)
      ? short || one.endsWith("-01") : one.endsWith(short ? "-01" : "-01-01"));
    const every = Math.max(1, Math.ceil(marks.length / ((right - left) / (short ? 62 : 44))));
    for (const [one, n] of marks.filter((_, m) => m % every === 0)) {
      svg.append(s("line", {class: "grid", x1: x(n), x2: x(n), y1: bottom, y2: bottom + 4}),
        s("text", {x: x(n), y: height - 6, "font-size": 11,
          "text-anchor": x(n) > right - 24 ? "end" : x(n) < left + 16 ? "start" : "middle"},
          short ? one.slice(0, 7) : one.slice(0, 4)));
    }
    for (const run of gap) {
      const from = x(Math.max(begin, run.from - 0.5)), to = x(Math.min(total - 1, run.to + 0.5));
      svg.append(s("rect", {class: "s-u band", x: from, width: Math.max(1.5, to - from), y: top,
        height: bottom - top}));
    }
    for (const [name, values] of [["expected", expected], ["available", available]]) {
      let path = "", pen = false;
      for (let n = begin; n < total; n += 1) {
        if (!isNumber(values[n])) { pen = false; continue; }
        const alone = !pen && !isNumber(values[n + 1]);
        path += `${pen ? "L" : "M"}${x(n).toFixed(1)} ${y(values[n]).toFixed(1)}`;
        if (alone) path += "h1.5";
        pen = true;
      }
      svg.append(s("path", {class: name, d: path}));
    }
    const cursor = s("line", {class: "cursor", y1: top, y2: bottom, visibility: "hidden"});
    svg.append(cursor);
    explorable(svg, said, {
      nth: event => Math.min(total - 1, Math.max(begin, begin + Math.round(
        (inside(svg, event)[0] - left) / (right - left) * (total - 1 - begin)))),
      step: (key, now) => {
        const by = step(key, now === null ? null : now - begin);
        return by === null ? null : by + begin;
      },
      mark: n => {
        cursor.setAttribute("x1", x(n)); cursor.setAttribute("x2", x(n));
        cursor.setAttribute("visibility", "visible");
      },
      say: n => described(days, periods, n),
    });
    figure.replaceChildren(svg);
  }
  let width = 0;
  new ResizeObserver(() => {
    if (figure.clientWidth === width) return;
    width = figure.clientWidth;
    draw();
  }).observe(figure);
  const line = name => s("svg", {viewBox: "0 0 13 13", "aria-hidden": "true"},
    s("line", {class: name, x1: 0, x2: 13, y1: 7, y2: 7}));
  return [h("p", null, `Symbols that have a file, by ${monthly(days) ? "month" : "date"}, beside ` +
    "those that are expected to have one."),
    h("div", {class: "key"}, h("span", null, line("available"), "available"),
      h("span", null, line("expected"), "expected"),
      gap.length ? h("span", null, s("svg", {viewBox: "0 0 13 13", "aria-hidden": "true"},
        s("rect", {width: 13, height: 13, class: "s-u band"})), "unknown: never probed") : null),
    figure, said];
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// A square for each period; a year's squares are weeks of seven dates, or twelve months in a row.
function calendarOf(days, periods) {
  const said = h("output", {class: "said"}, "Move over a square, or use the arrow keys in a " +
    `year, for the numbers of a ${monthly(days) ? "month" : "date"}.`);
  const years = new Map();
  periods.forEach((one, n) => {
    const year = one.slice(0, 4);
    if (!years.has(year)) years.set(year, []);
    years.get(year).push(n);
  });
  // Years before the first file say nothing.
  for (const [year, all] of years) {
    if (all.some(n => letter(days, n) !== "i") || years.size === 1) break;
    years.delete(year);
  }
  const figures = [...years].map(([year, all]) => {
    const first = new Date(Date.UTC(Number(year), 0, 1));
    const shift = (first.getUTCDay() + 6) % 7;       // Monday is the first row
    const place = n => {
      if (monthly(days)) return [Number(periods[n].slice(5, 7)) - 1, 0];
      const day = (Date.parse(periods[n]) - first.getTime()) / DAY + shift;
      return [Math.floor(day / 7), day % 7];
    };
    const pitch = monthly(days) ? 45 : 10, top = 19;
    const height = monthly(days) ? 20 : 70;
    const tally = {};
    const svg = s("svg", {viewBox: `0 0 540 ${top + height}`, role: "img", tabindex: "0"});
    MONTHS.forEach((name, month) => {
      const column = monthly(days) ? month
        : Math.floor(((Date.UTC(Number(year), month, 1) - first.getTime()) / DAY + shift) / 7);
      svg.append(s("text", {x: column * pitch, y: 13, "font-size": 14},
        monthly(days) ? name : name[0]));
    });
    const cells = new Map(), at = new Map();
    for (const n of all) {
      const state = letter(days, n), [column, row] = place(n);
      tally[state] = (tally[state] || 0) + 1;
      const cell = s("rect", {class: `s-${state}`, x: column * pitch, y: top + row * 10,
        width: pitch - 1.5, height: monthly(days) ? 18 : 8.5},
        s("title", null, described(days, periods, n)));
      cells.set(n, cell);
      at.set(`${column} ${row}`, n);
      svg.append(cell);
    }
    const summary = Object.keys(SHORT).filter(state => tally[state])
      .map(state => `${count(tally[state])} ${SHORT[state]}`).join(", ");
    svg.setAttribute("aria-label", `${year}: ${summary}`);
    let marked = null;
    const step = steps(monthly(days) ? {ArrowLeft: -1, ArrowRight: 1}
      : {ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1}, all.length - 1);
    explorable(svg, said, {
      nth: event => {
        const [x, y] = inside(svg, event);
        return at.get(`${Math.floor(x / pitch)} ${monthly(days) ? 0
          : Math.floor((y - top) / 10)}`) ?? null;
      },
      step: (key, now) => {
        const n = step(key, now === null ? null : all.indexOf(now));
        return n === null ? null : all[n];
      },
      mark: n => {
        marked?.classList.remove("cursor");
        marked = cells.get(n);
        marked.classList.add("cursor");
      },
      say: n => described(days, periods, n),
    });
    const present = all.reduce((sum, n) => sum + Math.min(days.available[n] || 0,
      days.expected[n] || 0), 0);
    const wanted = all.reduce((sum, n) => sum + (days.expected[n] || 0), 0);
    return h("figure", null, h("figcaption", null, h("b", null, year), " ",
      wanted ? percent(present / wanted) : ""), svg);
  });
  const bad = runsOf(days, "pmseu").reverse();
  const unit = monthly(days) ? "months" : "dates";
  return [h("p", null, monthly(days) ? "A square a month." :
    "A square a date, a column a week from Monday down."),
    legend(days),
    h("div", {class: monthly(days) ? "years months" : "years"}, ...figures), said,
    bad.length ? h("details", null, h("summary", null, `As a list: ${unit} that are not complete ` +
      `(${count(bad.length)})`), h("ul", null, ...bad.map(run => h("li", null,
        run.from === run.to ? described(days, periods, run.from)
          : `${span(periods[run.from], periods[run.to])}: ${SHORT[run.state]}, ` +
            `${count(run.to - run.from + 1)} ${unit}`)))) : null];
}

// --- a dataset ----------------------------------------------------------------------------------

const REPORTED = {appeared: "appeared late", replaced: "replaced", vanished: "vanished",
                  renamed: "renamed"};
const change = one => REPORTED[one.change] ?? text(one.change);

function holeWords(one, unit) {
  return `${span(one.first, one.last)}${one.periods > 1 ? ` (${count(one.periods)} ${unit}s)`
    : ""}: absent`;
}
function revisionWords(one) {
  const to = one.renamed_to ? ` to ${one.renamed_to}` : "";
  const sizes = isNumber(one.old_size) && isNumber(one.new_size) && one.old_size !== one.new_size
    ? `, ${size(one.old_size)} before, ${size(one.new_size)} now` : "";
  return `${span(one.period, one.last_period)}: ${change(one)}${to}, seen ` +
    `${instant(one.observed_at)}${sizes}`;
}

async function datasetPageShown() {
  const latest = await load("latest.json");
  const all = list((await load(latest.documents.datasets)).datasets);
  const mine = all.find(one => one.dataset === DATASET);
  if (!mine) {
    throw new Failure("This dataset is not in the latest publication. Those that are: see All " +
      "datasets, above.");
  }
  sayFresh(mine.last_probe, latest.published_at);
  const unit = mine.frequency === "monthly" ? "month" : "date";
  const day = mine.frequency === "monthly" ? "month" : "day";
  byId("about").textContent = `${MARKETS[mine.market] ?? text(mine.market)}, ` +
    `${text(mine.frequency)} files, ${text(mine.data_type)}` +
    `${mine.interval ? ` of ${mine.interval}` : ""}. State: ${text(mine.lifecycle)}` +
    `${mine.lifecycle === "live" ? "" : "; no more files are expected"}. A missing file is ` +
    `pending for ${counted(mine.settle_days, "day")} after its ${unit} ends, then absent.`;
  numbers([["Probed", span(mine.first, mine.last)], ["Settled to", period(mine.last_settled)],
    ["Symbols", `${count(mine.symbols)} (${count(mine.live)} live)`],
    ["Files", count(mine.files)], ["Size", size(mine.bytes)],
    ["Holes", counted(mine.holes, `symbol-${day}`)],
    ["Pending", counted(mine.pending, `symbol-${day}`)],
    [`Last 30 ${unit}s`, `${percent(mine.completeness)} complete`]]);
  const documents = mine.documents ?? {};
  const read = {};
  for (const name of ["symbols", "days", "holes", "revisions", "news", "files"]) {
    read[name] = load(documents[name]);
    read[name].catch(() => {});         // said in the part that shows it
  }
  const pictures = read.days.then(days => {
    if (!isText(days.first) || !isText(days.states)) throw new Failure("No date is recorded yet.");
    return days;
  });
  pictures.catch(() => {});
  await Promise.all([
    part("growth", async () => growth(await pictures, periodsOf(await pictures))),
    part("calendar", async () => calendarOf(await pictures, periodsOf(await pictures))),
    part("symbols", async () => symbolsTable(await read.symbols, read, unit)),
    part("holes", async () => holesTable(await read.holes, unit)),
    part("revisions", async () => revisionsTables(await read.revisions)),
    part("news", async () => newsList(list((await read.news).news), 20, true)),
    part("downloads", async () => downloads(mine, await read.files)),
  ]);
}

function symbolsTable(document_, read, unit) {
  const rows = entries(document_.symbols).map(([symbol, one]) => ({...one, symbol}));
  if (!rows.length) return h("p", null, "No symbol has been seen yet.");
  const key = (name, key_) => ({name, cell: one => text(one[key_]), value: one => one[key_]});
  const made = table("Symbols", [
    {name: "Symbol", value: one => one.symbol,
     cell: one => h("a", {href: `#${encodeURIComponent(one.symbol)}`, "aria-expanded": "false"},
       named(one.symbol))},
    key("Contract", "contract_type"), key("Quote", "quote_asset"), key("State", "state"),
    key("First file", "first"), key("Last file", "last"),
    {name: "Files", number: true, cell: one => count(one.files), value: one => one.files},
    {name: "Holes", number: true, cell: one => count(one.holes), value: one => one.holes,
     kind: one => one.holes ? "bad" : ""},
  ], rows);
  const bySymbol = new Map(made.all.map(one => [one.row.symbol, one]));

  const input = h("input", {type: "search", placeholder: "SOLUSDT", spellcheck: "false",
    maxlength: "100"});
  const pairs = values => values.map(value => [value, value]);
  const state = choice("State", pairs(distinct(rows, one => one.state)));
  const quote = choice("Quote asset", pairs(distinct(rows, one => one.quote_asset)));
  const contract = choice("Contract type", pairs(distinct(rows, one => one.contract_type)));
  const onlyHoles = h("input", {type: "checkbox"});
  const said = h("p", {role: "status"}, counted(rows.length, "symbol"));
  function filter() {
    const wanted = input.value.trim().toUpperCase();
    const shown = made.show(one => one.symbol.toUpperCase().includes(wanted) &&
      (!state.value || one.state === state.value) &&
      (!quote.value || one.quote_asset === quote.value) &&
      (!contract.value || one.contract_type === contract.value) &&
      (!onlyHoles.checked || one.holes > 0));
    said.textContent = shown === rows.length ? counted(rows.length, "symbol")
      : `${count(shown)} of ${counted(rows.length, "symbol")}`;
  }
  input.addEventListener("input", filter);
  for (const one of [state.made, quote.made, contract.made, onlyHoles]) {
    one.addEventListener("change", filter);
  }

  async function filledDetail(one) {
    const cell = one.detail.firstChild.firstChild, row = one.row;
    const symbol = row.symbol;
    try {
      const [holes, revisions] = await Promise.all([read.holes, read.revisions]);
      const mine = list(holes.holes).filter(hole => hole.symbol === symbol);
      const changes = list(revisions.revisions).filter(one_ => one_.symbol === symbol);
      const inner = [h("p", null, named(symbol), `: ${counted(row.files, "file")}` +
        (row.first ? `, ${span(row.first, row.last)}. ` : ". "),
        h("a", {href: symbolPage(symbol)}, "The same symbol in all datasets"))];
      inner.push(h("h3", null, "Holes"), mine.length
        ? h("ul", null, ...mine.map(hole => h("li", null, holeWords(hole, unit))))
        : h("p", null, "None: no file is absent between its first and last."));
      inner.push(h("h3", null, "Late and replaced files"), changes.length
        ? h("ul", null, ...changes.map(one_ => h("li", null, named(revisionWords(one_)))))
        : h("p", null, revisions.left_out ? "None among the newest; older ones are in Parquet."
          : "None."));
      cell.replaceChildren(...inner);
    } catch (error) {
      cell.replaceChildren(failed(error));
    }
  }
  function close(one) {
    one.detail?.remove();
    one.detail = null;
    one.line.classList.remove("chosen");
    one.line.querySelector("a").setAttribute("aria-expanded", "false");
  }
  let open = null;
  async function follow(move) {
    let wanted;
    try {
      wanted = decodeURIComponent(location.hash.slice(1));
    } catch {
      wanted = location.hash.slice(1);
    }
    const one = bySymbol.get(wanted) ?? bySymbol.get(wanted.toUpperCase());
    if (open && open !== one) { close(open); open = null; }
    if (!one) {
      if (wanted && !byId(wanted)) {
        const name = wanted.slice(0, MOST_NAME);
        said.replaceChildren(named(name), " is not recorded in this dataset. ",
          h("a", {href: symbolPage(name)}, "Other datasets and similar names"));
        if (move) byId("h-symbols").scrollIntoView();
      }
      return;
    }
    if (one.line.hidden) {
      input.value = state.made.value = quote.made.value = contract.made.value = "";
      onlyHoles.checked = false;
      filter();
    }
    if (open !== one) {
      open = one;
      one.detail = h("tr", {class: "detail"}, h("td", {colspan: made.columns},
        h("div", null, "Loading\u2026")));
      one.line.after(one.detail);
      one.line.classList.add("chosen");
      const link = one.line.querySelector("a");
      link.setAttribute("aria-expanded", "true");
      await filledDetail(one);
    }
    if (move) {
      one.line.querySelector("a").focus({preventScroll: true});
      one.line.scrollIntoView({block: "center"});
    }
  }
  // A second press on an open symbol closes it.
  made.node.addEventListener("click", event => {
    const link = event.target.closest?.("tbody th a");
    if (link && open && open.line.contains(link)) {
      event.preventDefault();
      close(open);
      open = null;
      history.replaceState(null, "", location.pathname + location.search);
    }
  });
  addEventListener("hashchange", () => follow(true));
  queueMicrotask(() => {
    // After the other parts, which would push the row away.
    Promise.allSettled(Object.values(read)).then(() => requestAnimationFrame(() => follow(true)));
  });
  return [h("p", null, "A symbol's name shows its holes and its late and replaced files; the " +
      "page's address then leads to it. A hole is a file that is confirmed absent between the " +
      "symbol's first and last."),
    h("div", {class: "controls"}, field("Search", input), state.node, quote.node, contract.node,
      h("label", {class: "tick"}, onlyHoles, "with holes only")), said, made.node];
}

function holesTable(document_, unit) {
  const rows = list(document_.holes), acknowledged = list(document_.acknowledged);
  const shown = rows.slice(0, MOST_HOLES), made = [];
  if (!rows.length) {
    made.push(h("p", null, "None: between the first and last file of each symbol nothing is " +
      "confirmed absent."));
  } else {
    const total = rows.reduce((sum, one) => sum + (one.periods || 0), 0);
    made.push(h("p", null, `${counted(rows.length, "run")} of absent files, ` +
      `${counted(total, `symbol-${unit === "month" ? "month" : "day"}`)} together.`));
    if (rows.length > shown.length) {
      made.push(h("p", null, `${count(rows.length - shown.length)} runs are left out of this ` +
        "page; all are in ", h("a", {href: address(`${DATASET}/holes.json`)}, "holes.json"), "."));
    }
    made.push(table("Holes", [
      {name: "Symbol", value: one => one.symbol,
       cell: one => h("a", {href: `#${encodeURIComponent(one.symbol)}`}, named(one.symbol))},
      {name: `First ${unit}`, cell: one => period(one.first), value: one => one.first},
      {name: `Last ${unit}`, cell: one => period(one.last), value: one => one.last},
      {name: unit === "month" ? "Months" : "Days", number: true, cell: one => count(one.periods),
       value: one => one.periods},
    ], shown).node);
  }
  if (acknowledged.length) {
    made.push(h("h3", null, "Acknowledged"), h("p", null, "Files that are absent and are known " +
      "never to come. They stay absent."), table("Acknowledged", [
      {name: "Symbol", value: one => one.symbol,
       cell: one => isText(one.symbol) ? named(one.symbol) : "every symbol"},
      {name: unit === "month" ? "Month" : "Date", cell: one => period(one.period),
       value: one => one.period},
      {name: "Reason", cell: one => named(text(one.reason)), value: one => one.reason,
       kind: () => "long"},
    ], acknowledged).node);
  }
  return made;
}

function revisionsTables(document_) {
  const groups = list(document_.groups), revisions = list(document_.revisions);
  if (!groups.length && !revisions.length) {
    return h("p", null, "No file has come late, and none was replaced, since the first probe.");
  }
  const made = [h("p", null, "What changed in the archive after a date had been probed: files " +
    "that came late, that were replaced by other content, or that vanished.")];
  made.push(table("Changes by probe", [
    {name: "Seen", cell: one => instant(one.observed_at), value: one => one.observed_at},
    {name: "Change", cell: one => change(one), value: change},
    {name: "Files", number: true, cell: one => count(one.files), value: one => one.files},
    {name: "Symbols", number: true, cell: one => count(one.symbols), value: one => one.symbols},
    {name: "From", cell: one => period(one.first), value: one => one.first},
    {name: "To", cell: one => period(one.last), value: one => one.last},
  ], groups).node);
  if (revisions.length) {
    const holder = h("details", null, h("summary", null,
      `Each file: the newest ${count(revisions.length)}`));
    let filled_ = false;
    const bytes = one => isNumber(one.old_size) || isNumber(one.new_size)
      ? `${size(one.old_size)} \u2192 ${size(one.new_size)}` : NONE;
    holder.addEventListener("toggle", () => {
      if (filled_) return;
      filled_ = true;
      holder.append(table("Each file", [
        {name: "Symbol", value: one => one.symbol, cell: one => named(text(one.symbol))},
        {name: "Seen", cell: one => instant(one.observed_at), value: one => one.observed_at},
        {name: "Change", value: change, cell: one => isText(one.renamed_to)
          ? named(`renamed to ${one.renamed_to}`) : change(one)},
        {name: "From", cell: one => period(one.period), value: one => one.period},
        {name: "To", cell: one => period(one.last_period), value: one => one.last_period},
        {name: "Files", number: true, cell: one => count(one.files), value: one => one.files},
        {name: "Size", number: true, cell: bytes, value: one => one.new_size},
        {name: "Published before", cell: one => instant(one.old_last_modified),
         value: one => one.old_last_modified},
        {name: "Published now", cell: one => instant(one.new_last_modified),
         value: one => one.new_last_modified},
      ], revisions).node);
    });
    made.push(holder);
  }
  if (document_.left_out) {
    made.push(h("p", null, `${count(document_.left_out)} older changes are in the Parquet file ` +
      "below."));
  }
  return made;
}

function yearOf(path) {
  const found = /year=(\d{4})(?:\/month=(\d\d))?/.exec(path);
  return found ? [found[1], found[2]].filter(Boolean).join("-") : text(path);
}

function downloads(mine, parquet) {
  const plain = ["symbols.json", "holes.json", "revisions.json", "days.json", "news.json",
    "files.json", "feed.atom"];
  const links = pairs => h("p", null, ...pairs.flatMap(([name, path], n) =>
    [n ? ", " : null, h("a", {href: address(path)}, name)]));
  const files = list(parquet.files), {revisions} = parquet;
  const all = revisions ? [...files, revisions] : files;
  const made = [h("h3", null, "JSON and feed"),
    links(plain.map(name => [name, `${mine.dataset}/${name}`]))];
  if (all.length) {
    made.push(h("h3", null, "Parquet"), h("p", null, "Each file of the archive with its size and " +
      `time, by year; and all changes: ${counted(all.length, "file")}, ` +
      `${size(all.reduce((sum, one) => sum + one.bytes, 0))}.`));
    made.push(links(all.map(one => [one === revisions ? "revisions" : yearOf(one.path),
      one.path])));
  }
  made.push(h("p", null, "How to read them: ", h("a", {href: `${ROOT}about.html`},
    "About and format"), "."));
  return made;
}

// --- symbol.html --------------------------------------------------------------------------------

async function symbolPageShown() {
  const asked = (new URLSearchParams(location.search).get("name") ?? "").trim().slice(0, MOST_NAME);
  const latest = await load("latest.json");
  sayFresh(latest.last_probe, latest.published_at);
  byId("find").replaceChildren(finder(latest));
  if (!asked) {
    byId("coverage").replaceChildren(h("p", null, "Find a symbol above: this page shows in which " +
      "datasets it is, from when to when, and what is missing."));
    return;
  }
  byId("name").replaceChildren(named(asked));
  document.title = `${asked} - ${document.title}`;
  await part("coverage", async () => {
    const root = await allSymbols(latest), names = list(root.symbols);
    const name = names.includes(asked) ? asked : asked.toUpperCase();
    const n = names.indexOf(name);
    if (n < 0) return notRecorded(asked, names);
    byId("name").replaceChildren(named(name));
    const shard = await load(list(root.files)[Math.floor(n / root.per_file)]);
    const found = Object.hasOwn(shard.symbols ?? {}, name) ? entries(shard.symbols[name]) : [];
    const rows = found.map(([dataset, one]) => ({...one, dataset}));
    if (!rows.length) return notRecorded(asked, names);
    const key = (title, key_) => ({name: title, cell: one => text(one[key_]),
      value: one => one[key_]});
    const made = table("Datasets", [
      {name: "Dataset", value: one => one.dataset,
       cell: one => h("a", {href: datasetPage(one.dataset, name)}, named(one.dataset))},
      key("State", "state"), key("First file", "first"), key("Last file", "last"),
      {name: "Files", number: true, cell: one => count(one.files), value: one => one.files},
      {name: "Holes", number: true, cell: one => count(one.holes), value: one => one.holes,
       kind: one => one.holes ? "bad" : ""},
    ], rows);
    const holed = rows.filter(one => one.holes > 0);
    return [h("p", null, `In ${counted(rows.length, "dataset")}. live: files still come; ended: ` +
      "no more come; settled: a contract that was closed and renamed. The dataset's name leads " +
      "to the symbol there."), made.node,
      ...(holed.length ? [h("h2", null, "Holes"), ...holed.map(one => holesOf(latest, one, name))]
        : [h("p", null, "No holes: nothing is absent between its first and last file.")])];
  });
}

let datasetsRead = null;
function holesOf(latest, one, name) {
  const made = h("details", null, h("summary", null,
    `${one.dataset}: ${counted(one.holes, "hole")}`));
  made.addEventListener("toggle", async () => {
    if (!made.open || made.children.length > 1) return;
    const inner = h("div", null, h("p", null, "Loading\u2026"));
    made.append(inner);
    try {
      datasetsRead ??= load(latest.documents.datasets);
      const dataset = list((await datasetsRead).datasets).find(two => two.dataset === one.dataset);
      if (!dataset) throw new Failure("The dataset is not in the latest publication.");
      const unit = dataset.frequency === "monthly" ? "month" : "day";
      const holes = list((await load(dataset.documents.holes)).holes)
        .filter(hole => hole.symbol === name);
      inner.replaceChildren(h("ul", null, ...holes.map(hole => h("li", null,
        holeWords(hole, unit)))));
    } catch (error) {
      datasetsRead = null;
      inner.replaceChildren(failed(error));
    }
  });
  return made;
}

function notRecorded(asked, names) {
  const near = nearest(names.filter(isText), asked);
  return [h("p", null, named(asked), " is not recorded: no file of this name has been seen in " +
    "any dataset here."), near.length ? h("p", null, "The nearest names:") : null,
    near.length ? h("ul", null, ...near.map(name => h("li", null,
      h("a", {href: symbolPage(name)}, named(name))))) : null].filter(Boolean);
}

// --- about.html ---------------------------------------------------------------------------------

function aboutPage() {
  // The examples name the site that they are read on.
  const here = new URL(ROOT || ".", location.href).href.replace(/\/$/, "");
  for (const place of document.querySelectorAll(".address")) place.textContent = here;
}

const PAGES = {index: indexPage, dataset: datasetPageShown, symbol: symbolPageShown,
               about: aboutPage};
Promise.resolve().then(PAGES[document.body.dataset.page]).catch(error => {
  (byId("fresh") ?? byId("main").firstElementChild).after(failed(error));
  byId("fresh")?.remove();
});
})();
