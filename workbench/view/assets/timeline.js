// The timeline of one run: bytes over time by owner or tag, phases, a ledger for every moment, allocations, addresses.

import { AllocationTable, makeLedger, makeMeasured } from "./details.js";
import { isDark, make, makeChoice, makeSwatch, onTheme } from "./dom.js";
import { formatBytes, formatCount, formatTime } from "./format.js";
import { Gestures, makeHelp } from "./gestures.js";
import { Picture } from "./picture.js";
import { Series } from "./series.js";
import { Latest } from "./sources.js";

const TIMELINE_CLICKS = "Click a moment for its ledger, and a band for its allocations. Click a phase to zoom into it, a name below to show it alone.";

export class Timeline {
  constructor(source, head, options = {}) {
    this.source = source;
    this.head = head;
    this.options = options;
    this.latest = { series: new Latest(source), overview: new Latest(source), addresses: new Latest(source) };
    this.phases = Array.from(head.columns.name, (name, i) => ({
      name,
      start: head.columns.start[i],
      end: head.columns.end[i],
      depth: head.columns.depth[i],
    }));
    const tier = head.tiers.includes(options.tier) ? options.tier : head.tiers[0];
    this.state = { tier, by: options.by ?? "owner", view: "bytes", window: this.whole(), cursor: null, match: "" };
    this.only = new Set();
    this.emphasised = null;
    this.build();
  }

  whole() {
    return { start: 0, end: Math.max(this.head.end, 1) };
  }

  build() {
    const { head, state } = this;
    this.title = make("div", { class: "wb-title" }, make("strong", {}, head.name), make("span", {}, describe(head)));
    this.tierChoice = makeChoice("tier", head.tiers, state.tier, (tier) => this.change({ tier }));
    this.byChoice = makeChoice("bands by", ["owner", "tag"], state.by, (by) => this.change({ by }));
    this.viewChoice = makeChoice("show", ["bytes", "addresses"], state.view, (view) => this.change({ view }));
    this.search = make("input", { type: "search", placeholder: "Search owner, tag or stack", "aria-label": "search by owner, tag or stack" });
    this.search.addEventListener("input", () => this.searchSoon());
    const zoomButtons = [
      ["−", "zoom out", () => this.zoom(1.6)],
      ["+", "zoom in", () => this.zoom(1 / 1.6)],
      ["Whole run", "show the whole run", () => this.show(this.whole())],
    ].map(([text, label, onclick]) => make("button", { type: "button", "aria-label": label, title: label, onclick }, text));
    const tools = make(
      "div",
      { class: "wb-tools" },
      this.tierChoice.element,
      this.byChoice.element,
      this.viewChoice.element,
      make("div", { class: "wb-choice", role: "group", "aria-label": "zoom" }, ...zoomButtons),
      this.search,
    );
    this.picture = new Picture();
    this.legend = make("ul", { class: "wb-legend", "aria-label": "bands" });
    this.note = make("p", { class: "wb-note" });
    this.live = make("p", { class: "wb-unseen", role: "status", "aria-live": "polite" });
    this.details = make("div", { class: "wb-details" });
    this.element = make(
      "div",
      { class: "wb-root" },
      make("div", { class: "wb-head" }, this.title, tools),
      this.picture.element,
      this.legend,
      this.note,
      makeHelp(this.picture.chart, TIMELINE_CLICKS),
      this.live,
      this.details,
    );
    this.picture.chart.setAttribute("aria-label", `timeline of ${head.name}: bytes over time`);
    this.gestures = new Gestures(this);
  }

  /** Starts drawing once it is on a page. */
  attach() {
    this.setTheme();
    this.stopTheme = onTheme(() => this.setTheme());
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(this.element);
    this.resize();
  }

  detach() {
    this.stopTheme?.();
    this.resizing?.disconnect();
    this.gestures.close();
  }

  setTheme() {
    this.element.dataset.theme = isDark() ? "dark" : "light";
    this.picture.readTheme();
    if (this.series) this.showLegend();
    this.redraw();
  }

  resize() {
    const width = Math.floor(this.picture.element.clientWidth);
    if (width) this.fit(width);
  }

  fit(width) {
    if (width === this.width) return;
    this.width = width;
    this.picture.fit(width, this.options.height);
    this.load();
  }

  change(changes) {
    Object.assign(this.state, changes);
    if (changes.tier || changes.by) {
      this.only.clear();
      this.series = this.overview = this.boxes = null;
      this.details.replaceChildren();
    } else if (this.series) this.showLegend();
    this.load();
  }

  show(window) {
    const whole = this.whole();
    const length = Math.min(Math.max(window.end - window.start, 100), whole.end);
    const start = Math.min(Math.max(window.start, 0), whole.end - length);
    if (this.options.follow) this.options.follow({ start, end: start + length });
    else this.showOwn({ start, end: start + length });
  }

  /** Shows a window in this timeline alone: others that follow it are not told. */
  showOwn(window) {
    this.state.window = window;
    this.redraw();
    this.load();
  }

  zoom(factor, at = (this.state.window.start + this.state.window.end) / 2) {
    const { start, end } = this.state.window;
    this.show({ start: at - (at - start) * factor, end: at + (end - at) * factor });
  }

  pan(share) {
    const { start, end } = this.state.window;
    const by = share * (end - start);
    this.show({ start: start + by, end: end + by });
  }

  question(ask, margin = 0) {
    const { tier, by, window, match } = this.state;
    const more = margin * (window.end - window.start);
    const question = { ask, tier, by, start: Math.max(window.start - more, 0), end: Math.min(window.end + more, this.whole().end) };
    if (match) question.match = match;
    if (this.only.size) question.only = [...this.only];
    return question;
  }

  /** Asks for what the window needs; what is at hand is shown meanwhile. */
  load() {
    if (!this.width || !this.state.tier) return this.redraw();
    const columns = this.picture.columns;
    const fail = (error) => this.fail(error);
    if (!this.overview) {
      const whole = { ...this.question("series"), ...this.whole(), columns };
      delete whole.match;
      this.latest.overview.ask(whole, (answer) => this.receiveOverview(answer), fail);
    }
    if (this.state.view === "addresses") {
      const question = { ...this.question("addresses"), columns, rows: this.picture.rows };
      this.latest.addresses.ask(question, (answer) => this.receiveBoxes(answer, question), fail);
    } else if (this.overview || this.state.match || this.only.size) {
      const question = this.question("series", 0.25);
      const share = (question.end - question.start) / (this.state.window.end - this.state.window.start);
      question.columns = Math.ceil(columns * share);
      this.wanted = question;
      this.latest.series.ask(question, (answer) => this.receiveSeries(answer, question), fail);
    }
  }

  isCurrent(answer) {
    return answer.tier === this.state.tier && answer.by === this.state.by;
  }

  receiveOverview(answer) {
    if (!this.isCurrent(answer)) return;
    this.overview = new Series(answer, answer.columns);
    if (!this.series) this.receiveSeries(answer, this.wanted);
    else this.redraw();
    if (answer.isCoarse) this.load();
  }

  receiveSeries(answer, question) {
    if (!this.isCurrent(answer) || (question?.match ?? "") !== this.state.match) return;
    this.series = new Series(answer, answer.columns);
    this.got = question;
    this.showLegend();
    this.redraw();
  }

  receiveBoxes(answer, question) {
    this.boxes = { ...answer, columnsAsked: question.columns };
    this.redraw();
  }

  fail(error) {
    this.note.textContent = error.message;
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  isShown = (b) => !this.only.size || this.only.has(this.series.bands[b].name);

  colours(bands) {
    const theme = this.element.dataset.theme;
    const isFaint = (band) => this.emphasised && this.emphasised !== band.name;
    return bands.map((band) => (isFaint(band) ? this.picture.faded(band[theme]) : this.picture.fill(band, theme)));
  }

  draw() {
    if (this.options.isHidden?.()) return this.options.drew(); // what came in is drawn by the one that holds it
    if (!this.width) return;
    const began = performance.now();
    const drawn = this.picture.draw(this);
    const now = performance.now();
    drawn.isFresh = this.got === this.wanted; // not what was at hand while the answer is on its way
    this.element.dataset.drawn = JSON.stringify({ ...drawn, ms: now - began, at: now });
    this.element.dispatchEvent(new CustomEvent("wb-drawn", { detail: drawn }));
    this.showNote(drawn);
    this.options.drew?.();
  }

  showNote(drawn) {
    const { window, view } = this.state;
    const step = (window.end - window.start) / 1000;
    const isWhole = window.end - window.start >= this.whole().end;
    const span = isWhole ? `the whole run, ${formatTime(window.end, step)}` : `${formatTime(window.start, step)} to ${formatTime(window.end, step)}`;
    const parts = [span];
    if (view === "bytes" && this.series) {
      parts.push(`${formatCount(this.head.events)} events recorded`, `at most ${formatBytes(drawn.highest)} here`);
    }
    if (view === "addresses" && this.boxes) {
      parts.push("memory where it lies: each stretch of addresses in use is a box, what has no colour is free");
      if (this.boxes.hidden) parts.push(`${formatCount(this.boxes.hidden)} smaller boxes are not drawn: zoom in`);
    }
    if (this.series?.match && this.state.match) parts.push(`outlined line: what matches “${this.state.match}”`);
    this.note.textContent = parts.join(" · ");
  }

  showLegend() {
    const theme = this.element.dataset.theme;
    const items = this.series.bands.map((band) => {
      const swatch = makeSwatch(band.name, band[theme]);
      const pressed = String(this.only.has(band.name));
      const button = make("button", { type: "button", "aria-pressed": pressed, title: `${band.name}, at most ${formatBytes(band.peak)}: show it alone, or with others` }, swatch, make("span", {}, band.name), make("small", {}, formatBytes(band.peak)));
      button.addEventListener("click", () => this.toggle(band.name));
      button.addEventListener("pointerenter", () => this.emphasise(band.name));
      button.addEventListener("pointerleave", () => this.emphasise(null));
      return make("li", {}, button);
    });
    if (this.series.truth.times.length && this.state.view === "bytes") items.push(make("li", { class: "wb-truth", title: truthTitle(this.state.tier) }, make("span", { class: "wb-dash" }), truthName(this.state.tier)));
    const focused = [...this.legend.querySelectorAll("button")].indexOf(document.activeElement);
    this.legend.replaceChildren(...items);
    if (focused >= 0) this.legend.querySelectorAll("button")[focused]?.focus();
  }

  toggle(name) {
    if (!this.only.delete(name)) this.only.add(name);
    this.load();
    this.showLegend();
    this.redraw();
  }

  emphasise(name) {
    this.emphasised = name;
    this.redraw();
  }

  searchSoon() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.state.match = this.search.value.trim();
      if (this.state.match) this.tellMatches();
      else this.details.replaceChildren();
      this.load();
    }, 200);
  }

  tellMatches() {
    const { match } = this.state;
    const question = { ...this.question("allocations"), ...this.whole() };
    delete question.only;
    this.details.replaceChildren(new AllocationTable(this.source, question, `allocations that match “${match}”`).element);
  }

  /** Tells of a moment: its ledger, and the allocations of the band that was pointed at; `name` is what has no band. */
  async tell(time, band, name = null) {
    const { tier, by } = this.state;
    this.state.cursor = time;
    this.redraw();
    const colourOf = (owner, tag) => this.colourOf(owner, tag);
    const choose = (owner, tag) => this.tell(time, this.bandOf(owner, tag), owner || tag);
    try {
      const answer = await this.source.ask({ ask: "ledger", tier, by, at: Math.round(time) });
      const at = formatTime(answer.ledger.at, 1e5) + (this.options.follow ? " on its own clock" : "");
      const panels = [makeLedger(answer, at, colourOf, choose)];
      if (band) {
        const question = { tier, by, band, start: Math.round(time), end: Math.round(time) };
        panels.push(new AllocationTable(this.source, question, `${band}: in use at ${at}`).element);
      } else if (name) panels.push(makeMeasured(name));
      this.details.replaceChildren(...panels);
      this.live.textContent = `the ledger of ${formatTime(time)} is below`;
    } catch (error) {
      this.fail(error);
    }
  }

  /** The band that bytes of a ledger are in; none where no event tells of them. */
  bandOf(owner, tag) {
    const wanted = this.state.by === "tag" ? tag || "no tag" : tag === "unused" ? `${owner} unused` : owner;
    return this.series.bands.find((band) => band.name === wanted || band.of.includes(wanted))?.name ?? null;
  }

  colourOf(owner, tag) {
    const band = this.series?.bands.find((one) => one.name === this.bandOf(owner, tag));
    return band ? band[this.element.dataset.theme] : "transparent";
  }

  /** What is in use at a time, for screen readers. */
  spoken(time) {
    const reading = this.reading(time);
    if (!reading) return formatTime(time);
    const largest = [...reading.bands].sort((a, b) => b.bytes - a.bytes).slice(0, 4);
    const bands = largest.map((band) => `${band.name} ${formatBytes(band.bytes)}`).join(", ");
    return `${formatTime(time)}${reading.phase ? `, ${reading.phase}` : ""}: ${formatBytes(reading.total)} in use: ${bands}`;
  }

  /** What is in use at a time, for the tip beside the pointer. */
  reading(time) {
    if (!this.series || this.state.view !== "bytes") return null;
    const at = this.series.at(time);
    const bands = this.series.bands
      .map((band, b) => ({ name: band.name, colour: band[this.element.dataset.theme], bytes: this.series.values[b][at], isShown: this.isShown(b) }))
      .filter((band) => band.isShown && band.bytes > 0);
    const phase = this.phases.filter((one) => one.start <= time && time < one.end).sort((a, b) => b.depth - a.depth)[0];
    return { time, phase: phase?.name, total: bands.reduce((sum, band) => sum + band.bytes, 0), bands };
  }
}

function truthName(tier) {
  return tier === "gpu" ? "used, as the driver says" : "private memory, as the kernel says";
}

function truthTitle(tier) {
  return tier === "gpu" ? "of the whole GPU, also what other programs use" : "less than what was handed out where some of that was never written to";
}

function describe(head) {
  const started = head.started ? new Date(head.started) : null;
  const day = started && !Number.isNaN(started.getTime()) ? started.toISOString().slice(0, 10) : head.started;
  const parts = [head.status, head.hardware, day, `${formatCount(head.events)} events`];
  if (head.lost) parts.push(`${formatCount(head.lost)} events were lost`);
  if (head.error) parts.push(head.error);
  return parts.filter(Boolean).join(" · ");
}
