// The drawn part of a timeline: phases, the chart with its axes, the overview, and the tip beside the pointer.

import { fitCanvas, isUnused, make, makeSwatch } from "./dom.js";
import { byteTicks, formatBytes, formatTick, formatTime, timeTicks } from "./format.js";
import { layPhases, paintBands, paintBoxes, paintLabel, paintReadings, paintSteps } from "./paint.js";

const LEFT = 70; // CSS pixels, of the axis of bytes
const RIGHT = 12;
const PHASE = 20;
const MOST_PHASE_ROWS = 4;
const TICKS = 22;
const OVERVIEW = 34;

export class Picture {
  constructor() {
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.tip = make("div", { class: "wb-tip", hidden: true });
    this.chart = make("div", { class: "wb-chart", tabindex: "0", role: "application", "aria-roledescription": "timeline" }, this.canvas, this.tip);
    this.strip = make("canvas", { class: "wb-overview", "aria-hidden": "true" });
    this.element = make("div", { class: "wb-picture" }, this.chart, this.strip);
  }

  readTheme() {
    const style = getComputedStyle(this.chart);
    const value = (name) => style.getPropertyValue(name).trim();
    this.theme = { ink: value("--wb-ink"), dim: value("--wb-dim"), line: value("--wb-line"), ground: value("--wb-ground"), soft: value("--wb-soft"), accent: value("--wb-accent"), font: style.fontFamily };
  }

  fit(width, height) {
    this.width = width;
    this.height = height ?? Math.round(Math.min(Math.max(width * 0.36, 280), 440));
  }

  /** Device pixels across the chart: as many columns are worth asking for. */
  get columns() {
    return Math.max(Math.round((this.width - LEFT - RIGHT) * (devicePixelRatio || 1)), 1);
  }

  get rows() {
    return Math.round((this.height - PHASE * 2 - TICKS) * (devicePixelRatio || 1));
  }

  timeAt(x, window) {
    return window.start + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (window.end - window.start);
  }

  share(pixels) {
    return pixels / (this.width - LEFT - RIGHT);
  }

  /** Draws it all; what it drew is the answer. */
  draw(timeline) {
    if (!this.theme) this.readTheme();
    const phases = timeline.phases;
    this.laid ??= layPhases(phases);
    this.phaseRows = Math.min(this.laid.count, MOST_PHASE_ROWS);
    const { context, width, height, ratio } = fitCanvas(this.canvas, this.width, this.height);
    context.clearRect(0, 0, width, height);
    const top = (this.phaseRows * PHASE + 8) * ratio;
    const bottom = height - TICKS * ratio;
    const box = { left: LEFT * ratio, top, bottom, height: bottom - top, width: width - (LEFT + RIGHT) * ratio, ratio };
    this.box = box;
    context.font = `${11 * ratio}px ${this.theme.font}`;
    const drawn = timeline.state.view === "addresses" ? this.drawAddresses(context, box, timeline) : this.drawBytes(context, box, timeline);
    this.drawTimes(context, box, timeline.state.window);
    this.drawPhases(context, box, timeline);
    this.drawCursor(context, box, timeline);
    this.drawOverview(timeline);
    return { ...drawn, view: timeline.state.view, tier: timeline.state.tier, by: timeline.state.by, window: timeline.state.window };
  }

  drawBytes(context, box, timeline) {
    const { series, state } = timeline;
    if (!series) return { samples: 0, bands: [], highest: 0 };
    const count = this.columns;
    const stacked = series.columns(state.window.start, state.window.end, count, timeline.isShown);
    const isWhole = !timeline.only.size;
    const truth = isWhole ? highestIn(series.truth, state.window) : 0;
    this.own = Math.max(stacked.highest, truth, 1);
    const top = Math.max(this.own, timeline.options.top?.() ?? 0) * 1.06;
    this.scale = { top, stacked, count };
    this.drawBytesAxis(context, box, top);
    paintBands(context, box, stacked, count, timeline.colours(series.bands), top, this.theme.ground);
    if (isWhole) paintReadings(context, box, series.truth, state.window, top, this.theme.ink);
    if (series.match && state.match) {
      paintSteps(context, box, series.match, state.window, top, { strokeStyle: this.theme.ground, lineWidth: 4 * box.ratio });
      paintSteps(context, box, series.match, state.window, top, { strokeStyle: this.theme.ink, lineWidth: 1.75 * box.ratio });
    }
    return { samples: series.times.length, bands: series.bands.map((band) => band.name), highest: stacked.highest, top, shown: series.facts.shown };
  }

  drawBytesAxis(context, box, top) {
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (const tick of byteTicks(top, Math.max(box.height / box.ratio / 44, 2))) {
      const y = Math.round(box.bottom - (tick / top) * box.height) + 0.5;
      if (y < box.top) continue;
      this.line(context, box.left, y, box.left + box.width, y, this.theme.line);
      context.fillStyle = this.theme.dim;
      context.fillText(formatTick(tick), box.left - 8 * box.ratio, y);
    }
  }

  drawAddresses(context, box, timeline) {
    const { boxes } = timeline;
    if (!boxes) return { boxes: 0, highest: 0 };
    context.fillStyle = this.theme.soft;
    context.fillRect(box.left, box.top, box.width, box.height);
    const shift = this.shift(boxes, timeline.state.window, box);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    paintBoxes(context, shift, boxes, timeline.colours(boxes.bands));
    context.restore();
    this.drawRanges(context, box, boxes);
    return { boxes: boxes.columns.left.length, highest: 0 };
  }

  /** Where boxes of another window than the present one lie in it. */
  shift(boxes, window, box) {
    const perNs = box.width / (window.end - window.start);
    return { ...box, left: box.left + (boxes.start - window.start) * perNs, width: (boxes.end - boxes.start) * perNs };
  }

  drawRanges(context, box, boxes) {
    const rows = boxes.columns.range_row;
    context.font = `${10 * box.ratio}px ${this.theme.font}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    let last = Infinity;
    for (let i = 0; i < rows.length; i++) {
      const y = Math.round(box.bottom - (rows[i] / boxes.rows) * box.height) + 0.5;
      this.line(context, box.left, y, box.left + box.width, y, this.theme.line);
      if (last - y < 14 * box.ratio) continue;
      last = y;
      context.fillStyle = this.theme.dim;
      context.fillText(shortAddress(boxes.columns.range_address[i]), box.left - 8 * box.ratio, y - 6 * box.ratio);
    }
  }

  drawTimes(context, box, window) {
    const { ticks, step } = timeTicks(window.start, window.end, Math.max(box.width / box.ratio / 110, 2));
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const tick of ticks) {
      const x = Math.round(box.left + ((tick - window.start) / (window.end - window.start)) * box.width) + 0.5;
      this.line(context, x, box.bottom, x, box.bottom + 4 * box.ratio, this.theme.dim);
      const text = formatTime(tick, step);
      const half = context.measureText(text).width / 2;
      context.fillStyle = this.theme.dim;
      context.fillText(text, Math.min(Math.max(x, half), box.left + box.width + RIGHT * box.ratio - half), box.bottom + 7 * box.ratio);
    }
    this.line(context, box.left, box.bottom + 0.5, box.left + box.width, box.bottom + 0.5, this.theme.dim);
  }

  drawPhases(context, box, timeline) {
    const { window } = timeline.state;
    const x = (time) => box.left + (Math.min(Math.max((time - window.start) / (window.end - window.start), 0), 1)) * box.width;
    context.textAlign = "left";
    context.textBaseline = "middle";
    timeline.phases.forEach((phase, i) => {
      const row = this.laid.rows[i];
      if (row >= MOST_PHASE_ROWS || phase.end < window.start || phase.start > window.end) return;
      const [left, right] = [x(phase.start), x(phase.end)];
      const y = row * PHASE * box.ratio;
      const height = (PHASE - 2) * box.ratio;
      context.fillStyle = timeline.hoveredPhase === i ? this.theme.accent : this.theme.soft;
      context.fillRect(left, y, Math.max(right - left - box.ratio, box.ratio), height);
      context.fillStyle = timeline.hoveredPhase === i ? this.theme.ground : this.theme.ink;
      paintLabel(context, phase.name, left + 5 * box.ratio, right - left - 8 * box.ratio, y + height / 2 + 0.5);
      if (timeline.hoveredPhase === i) {
        for (const edge of [left, right]) this.line(context, Math.round(edge) + 0.5, y + height, Math.round(edge) + 0.5, box.bottom, this.theme.accent);
      }
    });
  }

  phaseAt(x, y, timeline) {
    const row = Math.floor(y / PHASE);
    if (row >= (this.phaseRows ?? 0)) return -1;
    const time = this.timeAt(x, timeline.state.window);
    return timeline.phases.findIndex((phase, i) => this.laid.rows[i] === row && phase.start <= time && time <= phase.end);
  }

  /** The band that is drawn at a point of the chart. */
  bandAt(x, y, timeline) {
    if (timeline.state.view === "addresses") return this.boxAt(x, y, timeline)?.band ?? null;
    if (!timeline.series || !this.scale) return null;
    const ratio = this.box.ratio;
    const column = Math.floor(((x - LEFT) / (this.width - LEFT - RIGHT)) * this.scale.count);
    if (column < 0 || column >= this.scale.count) return null;
    const bytes = ((this.box.bottom - y * ratio) / this.box.height) * this.scale.top;
    if (bytes < 0) return null;
    const { tops } = this.scale.stacked;
    const band = timeline.series.bands.findIndex((_, b) => bytes <= tops[b * this.scale.count + column]);
    return band < 0 ? null : timeline.series.bands[band].name;
  }

  /** The band and the bytes of the allocation that is drawn at a point of the addresses: what is painted last covers. */
  boxAt(x, y, timeline) {
    const { boxes } = timeline;
    if (!boxes || !this.box) return null;
    const { left, right, low, high, band, bytes } = boxes.columns;
    const shift = this.shift(boxes, timeline.state.window, this.box);
    const column = ((x * this.box.ratio - shift.left) / shift.width) * boxes.columnsAsked;
    const row = ((shift.bottom - y * this.box.ratio) / shift.height) * boxes.rows;
    for (let i = left.length - 1; i >= 0; i--) {
      if (left[i] <= column && column < right[i] && low[i] <= row && row < high[i]) return { band: boxes.bands[band[i]].name, bytes: bytes[i] };
    }
    return null;
  }

  drawCursor(context, box, timeline) {
    const { cursor, window } = timeline.state;
    for (const [time, colour] of [[cursor, this.theme.accent], [timeline.pointed, this.theme.ink]]) {
      if (time == null || time < window.start || time > window.end) continue;
      const x = Math.round(box.left + ((time - window.start) / (window.end - window.start)) * box.width) + 0.5;
      this.line(context, x, box.top, x, box.bottom, colour);
    }
    if (timeline.selection) {
      const [a, b] = timeline.selection.map((time) => box.left + ((time - window.start) / (window.end - window.start)) * box.width);
      context.globalAlpha = 0.2;
      context.fillStyle = this.theme.accent;
      context.fillRect(Math.min(a, b), box.top, Math.abs(b - a), box.height);
      context.globalAlpha = 1;
    }
  }

  drawOverview(timeline) {
    const { context, width, height, ratio } = fitCanvas(this.strip, this.width, OVERVIEW);
    context.clearRect(0, 0, width, height);
    const series = timeline.overview;
    if (!series) return;
    const box = { left: LEFT * ratio, top: 0, bottom: height - 2, height: height - 4, width: width - (LEFT + RIGHT) * ratio, ratio };
    const whole = timeline.whole();
    const count = this.columns;
    if (this.small?.series !== series || this.small.count !== count) {
      this.small = { series, count, stacked: series.columns(whole.start, whole.end, count, () => true) };
    }
    const { stacked } = this.small;
    const total = { tops: stacked.tops.subarray((series.bands.length - 1) * count) };
    paintBands(context, box, total, count, [this.theme.dim], Math.max(stacked.highest, 1), this.theme.dim);
    const x = (time) => box.left + (time / whole.end) * box.width;
    const { start, end } = timeline.state.window;
    context.fillStyle = this.theme.ground;
    context.globalAlpha = 0.75;
    context.fillRect(box.left, 0, x(start) - box.left, height);
    context.fillRect(x(end), 0, box.left + box.width - x(end), height);
    context.globalAlpha = 1;
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1.5 * ratio;
    context.strokeRect(x(start) + 0.75, 1, Math.max(x(end) - x(start) - 1.5, 2), height - 2);
  }

  overviewTime(x, timeline) {
    return ((x - LEFT) / (this.width - LEFT - RIGHT)) * timeline.whole().end;
  }

  showTip(x, y, lines) {
    this.tip.replaceChildren(...lines);
    this.tip.hidden = !lines.length;
    if (!lines.length) return;
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = x + 18 + width < this.width ? x + 18 : Math.max(x - 18 - width, 0);
    this.tip.style.transform = `translate(${left}px, ${Math.max(Math.min(y - height / 2, this.height - height), 0)}px)`;
  }

  /** What a band is filled with: its colour; stripes for what nobody uses. */
  fill(band, theme) {
    if (!isUnused(band.name)) return band[theme];
    this.stripes ??= {};
    this.stripes[theme] ??= makeStripes(band[theme], theme === "dark" ? "#3a4149" : "#d9dde2");
    return this.stripes[theme];
  }

  faded(colour) {
    return `color-mix(in srgb, ${colour} 22%, ${this.theme.ground})`;
  }

  line(context, x0, y0, x1, y1, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
  }
}

/** The lines of the tip: a reading of all bands at a time. */
export function tipOf(reading, band) {
  if (!reading) return [];
  const rows = reading.bands.map((one) =>
    make(
      "tr",
      { class: one.name === band ? "wb-chosen" : "" },
      make("td", {}, makeSwatch(one.name, one.colour), one.name),
      make("td", { class: "wb-number" }, formatBytes(one.bytes)),
    ),
  );
  const title = make("div", {}, make("strong", {}, formatBytes(reading.total)), ` at ${formatTime(reading.time)}`, reading.phase ? ` · ${reading.phase}` : "");
  return [title, make("table", {}, make("tbody", {}, ...rows.reverse()))];
}

/** The lines of the tip over the addresses. */
export function tipOfBox(box, time) {
  return [make("div", {}, ...(box ? [make("strong", {}, formatBytes(box.bytes)), ` ${box.band}`] : ["nothing here"]), ` at ${formatTime(time)}`)];
}

function makeStripes(colour, between) {
  const tile = make("canvas", { width: 6, height: 6 });
  const context = tile.getContext("2d");
  context.fillStyle = between;
  context.fillRect(0, 0, 6, 6);
  context.strokeStyle = colour;
  context.lineWidth = 1.8;
  for (const shift of [-6, 0, 6]) {
    context.beginPath();
    context.moveTo(shift - 1, 7);
    context.lineTo(shift + 7, -1);
    context.stroke();
  }
  return context.createPattern(tile, "repeat");
}

function highestIn({ times, values }, window) {
  let highest = 0;
  for (let i = 0; i < times.length; i++) {
    const next = i + 1 < times.length ? times[i + 1] : Infinity;
    if (times[i] <= window.end && next >= window.start) highest = Math.max(highest, values[i]);
  }
  return highest;
}

/** The end of an address, which is what tells neighbours apart. */
function shortAddress(address) {
  return `…${address.toString(16).padStart(8, "0").slice(-8)}`;
}
