// Two to six runs on one axis of time, one over the other or side by side, and what differs between them.

import { AlignedSource } from "./aligned.js";
import { MEASURED } from "./details.js";
import { isDark, make, makeChoice, onTheme } from "./dom.js";
import { makeDeltas, makeSettings } from "./differences.js";
import { formatBytes, formatTime } from "./format.js";
import { Gestures, makeHelp } from "./gestures.js";
import { Overlay, overlayTip, wayLine } from "./overlay.js";
import { Timeline } from "./timeline.js";

const COMPARISON_CLICKS = "Click a moment for the ledger of each run, a phase to zoom into it, and a difference below to see it alone in all timelines.";

export async function openComparison(source, options = {}) {
  const head = await source.ask({ ask: "comparison" });
  const sources = head.runs.map((_, run) => new AlignedSource(source, run, head.own[run], head.shared));
  const heads = await Promise.all(sources.map((one) => one.ask({ ask: "run" })));
  return new Comparison(source, head, sources, heads, options);
}

export class Comparison {
  constructor(source, head, sources, heads, options) {
    Object.assign(this, { source, head, options });
    const tier = head.tiers.includes(options.tier) ? options.tier : head.tiers[0];
    this.state = { tier, by: "owner", view: "bytes", layout: "overlaid", ranking: "owner", window: this.whole(), cursor: null };
    this.timelines = sources.map((one, run) => this.makeTimeline(one, heads[run]));
    this.phases = this.timelines[0].phases;
    this.build();
  }

  makeTimeline(source, head) {
    const { tier, by } = this.state;
    const isHidden = () => this.state.layout === "overlaid";
    return new Timeline(source, head, { tier, by, height: 230, isHidden, follow: (window) => this.show(window), drew: () => this.drew(), top: () => this.top() });
  }

  whole() {
    return { start: 0, end: Math.max(this.head.shared[this.head.shared.length - 1], 1) };
  }

  /** A run's name: its way's, numbered where that was run more than once. */
  label(run) {
    const way = this.head.ways.find((one) => one.runs.includes(run));
    return way.runs.length > 1 ? `${way.name}, run ${way.runs.indexOf(run) + 1}` : way.name;
  }

  /** The names of some runs: of a way alone where all its runs are among them. */
  labels(runs) {
    if (runs.length === this.head.runs.length) return "all runs";
    const whole = this.head.ways.filter((way) => way.runs.every((run) => runs.includes(run)));
    const others = runs.filter((run) => !whole.some((way) => way.runs.includes(run)));
    return [...whole.map((way) => way.name), ...others.map((run) => this.label(run))].join(", ");
  }

  /** Where and when the runs of a way, or all of them, were recorded. */
  machines(runs = this.head.runs) {
    return [...new Set(runs.map((run) => run.machine))];
  }

  about() {
    const machines = this.machines();
    const where = machines.length > 1 ? "recorded on different machines or days" : `recorded on ${machines[0]}`;
    return `aligned by phase · differences are against the first · ${where}`;
  }

  build() {
    const { head, state } = this;
    this.byChoice = makeChoice("bands by", ["owner", "tag"], state.by, (by) => this.change({ by }));
    this.layoutChoice = makeChoice("layout", ["overlaid", "side by side"], state.layout, (layout) => this.change({ layout }));
    const tools = make(
      "div",
      { class: "wb-tools" },
      makeChoice("tier", head.tiers, state.tier, (tier) => this.change({ tier })).element,
      this.layoutChoice.element,
      this.byChoice.element,
      make("button", { type: "button", onclick: () => this.point(null) }, "Whole run"),
    );
    this.picture = new Overlay();
    this.picture.chart.setAttribute("aria-label", "bytes over time of the compared runs, aligned by phase");
    this.legend = make("ul", { class: "wb-legend", "aria-label": "runs" });
    this.shown = make("p", { class: "wb-note" });
    this.live = make("p", { class: "wb-unseen", role: "status", "aria-live": "polite" });
    this.overlaid = make("div", {}, this.picture.element);
    this.beside = make("div", { class: "wb-beside" });
    this.timelines.forEach((timeline, run) => {
      timeline.title.replaceChildren(make("strong", {}, this.label(run)), make("span", {}, `${head.runs[run].id} · ${head.runs[run].machine}`));
      this.beside.append(timeline.element);
    });
    this.deltas = make("div", {});
    this.settings = make("div", {});
    const title = make("div", { class: "wb-title" }, make("strong", {}, `${head.runs.length} runs compared`), make("span", {}, this.about()));
    this.element = make("div", { class: "wb-root wb-comparison" }, title, tools, this.overlaid, this.beside, this.legend, this.shown, makeHelp(this.picture.chart, COMPARISON_CLICKS), this.live, this.deltas, this.settings);
    this.gestures = new Gestures(this);
  }

  attach() {
    this.stopTheme = onTheme(() => this.setTheme());
    this.setTheme();
    for (const timeline of this.timelines) timeline.attach();
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(this.element);
    this.resize();
    this.arrange();
  }

  detach() {
    this.stopTheme?.();
    this.resizing?.disconnect();
    this.gestures.close();
    for (const timeline of this.timelines) timeline.detach();
  }

  setTheme() {
    this.theme = isDark() ? "dark" : "light";
    this.element.dataset.theme = this.theme;
    this.picture.readTheme();
    this.showLegend();
    this.redraw();
  }

  resize() {
    const width = Math.floor(this.shown.clientWidth); // the charts' own place may be hidden
    if (width <= 0 || width === this.width) return;
    this.width = width;
    this.picture.fit(width);
    for (const timeline of this.timelines) timeline.fit(width);
    this.redraw();
  }

  change(changes) {
    Object.assign(this.state, changes);
    if (changes.tier || changes.by) {
      this.only = this.missing = this.awaited = null;
      for (const timeline of this.timelines) timeline.change({ tier: this.state.tier, by: this.state.by });
    }
    this.arrange();
    if (changes.tier || changes.ranking) this.rank();
    this.redraw();
  }

  arrange() {
    const isOverlaid = this.state.layout === "overlaid";
    this.overlaid.hidden = this.legend.hidden = !isOverlaid;
    this.beside.hidden = isOverlaid;
    if (!isOverlaid) for (const timeline of this.timelines) timeline.redraw();
  }

  show(window) {
    const length = Math.min(Math.max(window.end - window.start, 100), this.whole().end);
    const start = Math.min(Math.max(window.start, 0), this.whole().end - length);
    this.state.window = { start, end: start + length };
    for (const timeline of this.timelines) timeline.showOwn(this.state.window);
    this.redraw();
  }

  zoom(factor, at = (this.state.window.start + this.state.window.end) / 2) {
    const { start, end } = this.state.window;
    this.show({ start: at - (at - start) * factor, end: at + (end - at) * factor });
  }

  pan(share) {
    const { start, end } = this.state.window;
    this.show({ start: start + share * (end - start), end: end + share * (end - start) });
  }

  /** The height that all charts beside each other share. */
  top() {
    return Math.max(...this.timelines.map((one) => one.picture.own ?? 0));
  }

  /** One of the timelines was drawn: where it is higher than all before, the others are drawn anew. */
  drew() {
    const top = this.top();
    if (top !== this.sharedTop) for (const timeline of this.timelines) timeline.redraw();
    this.sharedTop = top;
    this.redraw();
    if (this.awaited && this.timelines.every((one) => one.series)) this.point(this.awaited);
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (!this.width) return;
    const began = performance.now();
    const drawn = this.picture.draw(this);
    const now = performance.now();
    this.element.dataset.drawn = JSON.stringify({ ...drawn, layout: this.state.layout, only: this.only ?? null, ms: now - began, at: now });
    const what = this.only ? `only ${this.only}${this.among}` : this.missing ? `${this.missing}: ${MEASURED} All that was handed out` : "all that was handed out";
    if (drawn.samples === this.timelines.length && !this.isRanked) {
      this.isRanked = true; // once there is something to see: ranking takes the kernel's time
      this.rank();
      this.source.ask({ ask: "speeds" }).then(({ speeds }) => this.settings.replaceChildren(makeSettings(this, speeds)));
    }
    const { start, end } = this.state.window;
    const isWhole = end - start >= this.whole().end;
    this.shown.textContent = `${what} · ${isWhole ? "the whole run" : `${formatTime(end - start)} of ${formatTime(this.whole().end)}`}`;
  }

  colours(bands) {
    return bands.map((band) => band[this.theme]);
  }

  showLegend() {
    const items = this.head.ways.map((way) => {
      const notes = way.runs.length > 1 ? [`${way.runs.length} runs, the band from the least to the most`] : [];
      if (this.machines().length > 1) notes.push(this.machines(way.runs.map((run) => this.head.runs[run])).join(" and "));
      return make("li", {}, wayLine(this.head, way, this.theme), make("span", {}, way.name), make("small", {}, notes.join(" · ")));
    });
    this.legend.replaceChildren(...items);
  }

  async rank() {
    const { tier, ranking } = this.state;
    const ways = this.head.ways.slice(1).map((_, place) => place + 1);
    try {
      const answers = await Promise.all(ways.map((way) => this.source.ask({ ask: "deltas", tier, by: ranking, way })));
      if (tier === this.state.tier && ranking === this.state.ranking) this.deltas.replaceChildren(makeDeltas(this, answers));
    } catch (error) {
      this.deltas.replaceChildren(make("p", {}, error.message));
    }
  }

  /** Shows a difference in the timelines: the owner alone, and the phase as the window. For null, everything. */
  point(what) {
    const { ranking } = this.state;
    const [owner, phase] = what === null ? [null, null] : ranking === "owner" ? [what, null] : ranking === "phase" ? [null, what] : splitOnce(what, " in ");
    this.awaited = null;
    if (owner && this.state.by !== "owner") {
      this.byChoice.show("owner");
      this.change({ by: "owner" });
      this.awaited = what; // until there are bands by owner
      return;
    }
    const names = (timeline) => timeline.series?.bands.filter(({ of }) => of.includes(owner) || of.includes(`${owner} unused`)).map((band) => band.name) ?? [];
    const found = new Set(this.timelines.flatMap(names));
    this.only = found.size ? owner : null;
    this.among = found.has("others") ? " and others as small, where it has no band of its own" : "";
    this.missing = found.size ? null : owner;
    for (const timeline of this.timelines) {
      timeline.only = new Set(this.only ? (names(timeline).length ? names(timeline) : ["-"]) : []);
      timeline.load();
      if (timeline.series) timeline.showLegend();
      timeline.redraw();
    }
    const entered = this.timelines.flatMap((one) => one.phases).find((one) => one.name === phase);
    if (entered) this.gestures.enter(entered);
    else this.show(this.whole());
    this.element.scrollIntoView({ block: "nearest" });
  }

  tell(time) {
    this.state.cursor = time;
    this.layoutChoice.show("side by side");
    this.change({ layout: "side by side" });
    for (const timeline of this.timelines) timeline.tell(time, this.only && (timeline.bandOf(this.only) ?? this.only));
  }

  tip(time) {
    return overlayTip(this, time);
  }

  /** What each run holds at a time, for screen readers. */
  spoken(time) {
    const held = this.timelines.map((timeline, run) => `${this.label(run)} ${formatBytes(timeline.reading(time)?.total ?? 0)}`);
    return `${formatTime(time)}: ${held.join(", ")}`;
  }
}

function splitOnce(text, by) {
  const place = text.lastIndexOf(by);
  return [text.slice(0, place), text.slice(place + by.length)];
}
