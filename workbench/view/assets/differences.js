// What differs between ways of running: ranked, with noise called so; their settings, verdicts and speeds.

import { make, makeChoice } from "./dom.js";
import { formatBytes } from "./format.js";

const MOST_ROWS = 30;

/** The ranked differences of every way against the first. */
export function makeDeltas(comparison, answers) {
  const { head, state } = comparison;
  const choice = makeChoice("rank by", head.by, state.ranking, (ranking) => comparison.change({ ranking }));
  const panels = answers.map((answer) => makeRanking(comparison, answer));
  return make("div", {}, make("div", { class: "wb-tools wb-spaced" }, make("strong", {}, `${state.tier}: what differs, by`), choice.element), make("div", { class: "wb-details" }, ...panels));
}

function makeRanking(comparison, answer) {
  const { ways } = comparison.head;
  const { columns } = answer;
  const body = make("tbody");
  const most = Math.max(1, ...Array.from(columns.base, (base, i) => Math.abs(columns.other[i] - base)));
  for (let i = 0; i < Math.min(columns.what.length, MOST_ROWS); i++) body.append(deltaRow(comparison, columns, i, most));
  const growth = answer.by === "owner" ? "at the fullest phase edge" : "growth in the phase";
  const head = ["", ways[0].name, ways[answer.way].name, "difference", "", "beyond noise"].map((name, place) => make("th", { scope: "col", class: place && place < 4 ? "wb-number" : "" }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), body);
  const note = columns.what.length ? `${growth}, medians${columns.what.length > MOST_ROWS ? `; ${columns.what.length - MOST_ROWS} smaller ones are not listed` : ""}` : "nothing differs";
  return make("section", { class: "wb-panel", "aria-label": "differences" }, make("h3", {}, `${ways[answer.way].name} against ${ways[0].name}`), make("p", {}, note), columns.what.length ? make("div", { class: "wb-scroll" }, table) : null);
}

function deltaRow(comparison, columns, i, most) {
  const difference = columns.other[i] - columns.base[i];
  const what = columns.what[i];
  const button = make("button", { type: "button", class: "wb-link", onclick: () => comparison.point(what) }, what);
  const bar = make("span", { class: `wb-bar ${difference < 0 ? "wb-less" : "wb-more"}`, style: `width:${((Math.abs(difference) / most) * 100).toFixed(1)}%` });
  const noise = Number.isNaN(columns.noise[i]) ? "not known: one run each" : columns.is_noise[i] ? `noise: repeats differ by ${formatBytes(columns.noise[i])}` : `yes: repeats differ by ${formatBytes(columns.noise[i])}`;
  return make(
    "tr",
    { class: columns.is_noise[i] ? "wb-dim" : "" },
    make("td", {}, button),
    make("td", { class: "wb-number" }, formatBytes(columns.base[i])),
    make("td", { class: "wb-number" }, formatBytes(columns.other[i])),
    make("td", { class: "wb-number" }, (difference > 0 ? "+" : "") + formatBytes(difference)),
    make("td", { class: "wb-bars" }, bar),
    make("td", { class: "wb-dim" }, noise),
  );
}

/** What the ways differ in, whether it took effect, and how fast they were. */
export function makeSettings(comparison) {
  const { head } = comparison;
  const settings = head.settings.map(({ name, values }) => row([name, ...values]));
  const runs = head.runs.map((run, place) => {
    const { tokens_per_s: speed, first_token_s: first, between_s: between } = run.metrics;
    const verdicts = run.evidence.map((one) => make("div", { title: one.why }, make("span", {}, `${one.setting}: `), make("strong", {}, one.verdict), make("small", {}, ` ${one.why}`)));
    return make("tr", {}, make("td", {}, comparison.label(place)), cell(speed, (x) => x.toFixed(1)), cell(first, (x) => `${(x * 1000).toFixed(0)} ms`), cell(between, (x) => `${(x * 1000).toFixed(1)} ms`), make("td", { class: "wb-wrap" }, ...(verdicts.length ? verdicts : ["no settings to check"])));
  });
  return make(
    "div",
    { class: "wb-details" },
    panel("what the runs differ in", ["", ...head.ways.map((way) => way.name)], settings, head.settings.length ? "" : "nothing that was written down"),
    panel("speed, and whether settings took effect", ["", "tokens/s", "first token", "between tokens", "evidence"], runs, ""),
  );
}

function panel(title, names, rows, note) {
  const head = names.map((name) => make("th", { scope: "col" }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("section", { class: "wb-panel", "aria-label": title }, make("h3", {}, title), note ? make("p", {}, note) : null, rows.length ? make("div", { class: "wb-scroll" }, table) : null);
}

function row(texts) {
  return make("tr", {}, ...texts.map((text, place) => make("td", { class: place ? "wb-wrap" : "wb-dim" }, text)));
}

function cell(value, format) {
  return make("td", { class: value === null ? "wb-dim" : "" }, value === null ? "not recorded" : format(value));
}
