// The memory of a run while it is recorded: the same picture as a timeline's, without anything to ask.

import { make, makeSwatch } from "./dom.js";
import { formatBytes, formatTime } from "./format.js";
import { Picture } from "./picture.js";
import { Series } from "./series.js";

const UPDATE_MS = 100;
const SILENCE_MS = 5000; // after which nobody knows whether the run goes on

export class LiveChart {
  constructor() {
    this.picture = new Picture();
    this.picture.strip.hidden = true;
    this.picture.chart.setAttribute("role", "img");
    this.picture.chart.removeAttribute("tabindex");
    this.legend = make("ul", { class: "wb-legend", "aria-label": "owners" });
    this.note = make("p", { class: "wb-note" });
    this.element = make("div", { class: "wb-live", hidden: true }, this.picture.element, this.legend, this.note);
    this.only = new Set();
    this.options = {};
    this.isShown = () => true;
    this.updates = 0;
  }

  setTheme(theme) {
    this.theme = theme;
    this.picture.readTheme();
    this.show();
  }

  resize(width) {
    if (width > 0 && width !== this.width) {
      this.width = width;
      this.picture.fit(width, Math.round(Math.min(Math.max(width * 0.42, 190), 260)));
      this.show();
    }
  }

  /** What is known by now; the last owner first in the legend is the one that holds most. */
  receive(answer) {
    if (!answer.columns?.time) return;
    this.answer = answer;
    this.updates += 1;
    this.series = new Series(answer, answer.columns);
    this.phases = answer.phases;
    this.state = { tier: answer.tier, by: "owner", view: "bytes", window: { start: 0, end: answer.end }, cursor: null };
    this.picture.laid = null;
    this.received = performance.now();
    this.goOn();
  }

  /** Time goes on until more is told, which is soon: nothing is told that could not be seen. */
  goOn() {
    this.rest();
    const passed = performance.now() - this.received;
    if (passed > SILENCE_MS || !this.series) return;
    this.series.end = this.state.window.end = this.answer.end + passed * 1e6;
    for (const phase of this.phases) if (phase.open) phase.end = this.series.end;
    this.show();
    this.later = setTimeout(() => this.goOn(), UPDATE_MS);
  }

  /** It stays as it is until more is told. */
  rest() {
    clearTimeout(this.later);
  }

  clear() {
    this.rest();
    this.answer = this.series = null;
    this.element.hidden = true;
  }

  show() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (!this.series) return;
    this.element.hidden = false;
    if (!this.width) return;
    if (!this.picture.theme?.ink) this.picture.readTheme(); // it was not on a page yet
    const drawn = this.picture.draw(this);
    const last = (values) => (values.length ? values[values.length - 1] : 0);
    const total = this.series.values.reduce((sum, values) => sum + last(values), 0);
    const { times, values } = this.series.truth;
    this.legend.replaceChildren(
      ...this.series.bands.map((band, b) =>
        make("li", {}, makeSwatch(band.name, band[this.theme]), make("span", {}, band.name), make("small", {}, formatBytes(last(this.series.values[b])))),
      ),
    );
    const who = this.state.tier === "gpu" ? "driver" : "kernel";
    const used = last(values) ? `; in use at ${formatTime(last(times), 1e8)}, as the ${who} says: ${formatBytes(last(values))} (dashed)` : "";
    this.note.textContent = `${this.state.tier}: ${formatBytes(total)} handed out now${used}`;
    this.picture.chart.setAttribute("aria-label", `memory while it is recorded: ${this.note.textContent}`);
    this.element.dataset.drawn = JSON.stringify({ ...drawn, updates: this.updates, total });
  }

  colours(bands) {
    return bands.map((band) => this.picture.fill(band, this.theme));
  }

  whole() {
    return this.state.window;
  }
}
