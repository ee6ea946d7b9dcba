// What differs between ways of running: ranked, with noise called so; their settings, verdicts and speeds.

import { make, makeChoice } from "./dom.js";
import { formatBytes, formatTime } from "./format.js";

const MOST_ROWS = 30;
const RANKED = ["", "wb-number wb-way", "wb-number wb-way", "wb-number", "wb-bars", ""]; // the columns of a ranking

/** The ranked differences of every way against the first. */
export function makeDeltas(comparison, answers) {
  const { head, state } = comparison;
  const choice = makeChoice("rank by", head.by, state.ranking, (ranking) => comparison.change({ ranking }));
  const panels = answers.map((answer) => makeRanking(comparison, answer));
  return make("div", {}, make("div", { class: "wb-tools wb-spaced" }, make("strong", {}, `${state.tier}: what differs, by`), choice.element), make("div", { class: "wb-details wb-wide" }, ...panels));
}

function makeRanking(comparison, answer) {
  const { ways } = comparison.head;
  const { columns } = answer;
  const body = make("tbody");
  const most = Math.max(1, ...Array.from(columns.base, (base, i) => Math.abs(columns.other[i] - base)));
  for (let i = 0; i < Math.min(columns.what.length, MOST_ROWS); i++) body.append(deltaRow(comparison, columns, i, most));
  const growth = answer.by === "owner" ? "at the fullest phase edge" : "growth in the phase, less the phases inside it";
  const head = [answer.by, ways[0].name, ways[answer.way].name, "difference", "", "repeats differ by"].map((name, place) => make("th", { scope: "col", class: RANKED[place] }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), body);
  const note = columns.what.length ? `${growth}, medians${columns.what.length > MOST_ROWS ? `; ${columns.what.length - MOST_ROWS} smaller ones are not listed` : ""}` : "nothing differs";
  return make("section", { class: columns.what.length ? "wb-panel" : "wb-panel wb-alone", "aria-label": "differences" }, make("h3", {}, `${ways[answer.way].name} against ${ways[0].name}`), make("p", {}, note), columns.what.length ? make("div", { class: "wb-scroll" }, table) : null);
}

function deltaRow(comparison, columns, i, most) {
  const difference = columns.other[i] - columns.base[i];
  const what = columns.what[i];
  const button = make("button", { type: "button", class: "wb-link", onclick: () => comparison.point(what) }, what);
  const bar = make("span", { class: `wb-bar ${difference < 0 ? "wb-less" : "wb-more"}`, style: `width:${((Math.abs(difference) / most) * 100).toFixed(1)}%` });
  const noise = Number.isNaN(columns.noise[i]) ? "one run each" : formatBytes(columns.noise[i]) + (columns.is_noise[i] ? ": noise" : "");
  return make(
    "tr",
    { class: columns.is_noise[i] ? "wb-dim" : "" },
    make("td", {}, button),
    make("td", { class: "wb-number" }, formatBytes(columns.base[i])),
    make("td", { class: "wb-number" }, formatBytes(columns.other[i])),
    make("td", { class: "wb-number" }, (difference > 0 ? "+" : "") + formatBytes(difference)),
    make("td", { class: "wb-bars" }, bar),
    make("td", { class: "wb-wrap wb-dim wb-noise" }, noise),
  );
}

/** What the ways differ in, whether it took effect, what the runs took and how fast they were. */
export function makeSettings(comparison, speeds) {
  const { ways, settings } = comparison.head;
  const names = ["setting", ...ways.map((way) => way.name)];
  const rows = settings.map(({ name, values }) => row([name, ...values]));
  return make(
    "div",
    { class: "wb-details wb-wide" },
    panel("what the runs differ in", names, rows, "nothing that was written down", "wb-way", "wb-even"),
    panel("memory and speed", ["run", ...comparison.head.tiers.map((tier) => `peak ${tier}`), "tokens/s", "first token", "between tokens"], speedRows(comparison, speeds), "", "wb-number"),
    panel("whether settings took effect", ["setting", "verdict", "of", "because"], verdictRows(comparison, speeds), "no setting asks for something that must show"),
  );
}

/** A row for each verdict: on which runs, and why. */
function verdictRows(comparison, speeds) {
  const grouped = new Map();
  speeds.forEach(({ evidence }, run) => {
    for (const one of evidence) {
      const key = JSON.stringify([one.setting, one.verdict, one.why]);
      if (!grouped.has(key)) grouped.set(key, { ...one, runs: [] });
      grouped.get(key).runs.push(run);
    }
  });
  const found = [...grouped.values()].sort((a, b) => (a.setting < b.setting ? -1 : a.setting > b.setting ? 1 : a.runs[0] - b.runs[0]));
  return found.map(({ setting, verdict, why, runs }) => row([setting, make("strong", {}, verdict), comparison.labels(runs), why]));
}

function speedRows(comparison, speeds) {
  return speeds.map(({ metrics, peaks }, run) => {
    const sizes = comparison.head.tiers.map((tier) => cell(peaks[tier] ?? null, formatBytes, "nothing"));
    const speed = cell(metrics.tokens_per_s, (x) => x.toFixed(1));
    const times = [metrics.first_token_s, metrics.between_s].map((time) => cell(time, (x) => formatTime(x * 1e9, 1e5)));
    return make("tr", {}, make("td", { class: "wb-wrap" }, comparison.label(run)), ...sizes, speed, ...times);
  });
}

function panel(title, names, rows, none, kind = "", layout = "") {
  const head = names.map((name, place) => make("th", { scope: "col", class: place ? kind : "" }, name));
  const table = make("table", { class: layout }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("section", { class: "wb-panel", "aria-label": title }, make("h3", {}, title), rows.length ? make("div", { class: "wb-scroll" }, table) : make("p", {}, none));
}

function row(cells) {
  return make("tr", {}, ...cells.map((part, place) => make("td", { class: place ? "wb-wrap" : "wb-wrap wb-dim" }, part)));
}

function cell(value, format, none = "not recorded") {
  return make("td", { class: value === null ? "wb-number wb-dim" : "wb-number" }, value === null ? none : format(value));
}
