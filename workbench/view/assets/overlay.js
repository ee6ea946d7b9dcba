// Several runs in one chart: a line each, and a band where a way was run more than once.

import { fitCanvas, make } from "./dom.js";
import { formatBytes, formatTime } from "./format.js";
import { Picture } from "./picture.js";

const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3], [5, 5], [1, 4]]; // of the ways, so that one shows under another

export class Overlay extends Picture {
  drawBytes(context, box, comparison) {
    const count = this.columns;
    const { window } = comparison.state;
    const found = comparison.timelines.map((one) => this.outline(one, window, count));
    const highest = Math.max(...found.map((one) => one?.highest ?? 0));
    const top = Math.max(highest, 1) * 1.06;
    this.lines = { found, top, count };
    this.drawBytesAxis(context, box, top);
    comparison.head.ways.forEach((way, place) => {
      context.save();
      context.setLineDash(DASHES[place].map((one) => one * box.ratio));
      this.drawWay(context, box, way, found, top, count, way[comparison.theme]);
      context.restore();
    });
    return { highest, samples: found.filter(Boolean).length, bands: comparison.head.ways.map((way) => way.name) };
  }

  /** The upper edge of what is shown of a run, column by column. */
  outline(timeline, window, count) {
    const { series } = timeline;
    if (!series) return null;
    const stacked = series.columns(window.start, window.end, count, timeline.isShown);
    return { values: stacked.tops.subarray((series.bands.length - 1) * count), highest: stacked.highest };
  }

  drawWay(context, box, way, found, top, count, colour) {
    const runs = way.runs.map((run) => found[run]?.values).filter((values) => values?.length);
    if (!runs.length) return;
    const x = (c) => box.left + (c / count) * box.width;
    const y = (value) => box.bottom - (value / top) * box.height;
    const middle = new Float64Array(count);
    const [low, high] = [new Float64Array(count), new Float64Array(count)];
    for (let c = 0; c < count; c++) {
      const sorted = runs.map((values) => values[c]).sort((a, b) => a - b);
      [low[c], high[c]] = [sorted[0], sorted[sorted.length - 1]];
      middle[c] = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
    }
    if (runs.length > 1) {
      context.globalAlpha = 0.28;
      context.fillStyle = colour;
      context.beginPath();
      for (let c = 0; c < count; c++) context.lineTo(x(c), y(high[c]));
      for (let c = count - 1; c >= 0; c--) context.lineTo(x(c), y(low[c]));
      context.fill();
      context.globalAlpha = 1;
    }
    context.strokeStyle = colour;
    context.lineWidth = 2 * box.ratio;
    context.lineJoin = "round";
    context.beginPath();
    for (let c = 0; c < count; c++) context.lineTo(x(c), y(middle[c]));
    context.stroke();
  }

  bandAt() {
    return null;
  }

  drawOverview(comparison) {
    const known = comparison.timelines.filter((one) => one.overview);
    const first = known.find((one) => one.overview.bands.length) ?? known[0]; // of those that have nothing there is no picture
    if (first) super.drawOverview({ ...first, state: comparison.state, overview: first.overview, whole: () => comparison.whole() });
    else fitCanvas(this.strip, this.width, 34);
  }
}

/** A short piece of a way's line. */
export function wayLine({ ways }, way, theme) {
  const canvas = make("canvas", { class: "wb-line", "aria-hidden": "true" });
  const { context, width, height, ratio } = fitCanvas(canvas, 28, 8);
  context.strokeStyle = way[theme];
  context.lineWidth = 2 * ratio;
  context.setLineDash(DASHES[ways.indexOf(way)].map((one) => one * ratio));
  context.beginPath();
  context.moveTo(0, height / 2);
  context.lineTo(width, height / 2);
  context.stroke();
  return canvas;
}

/** The lines of the overlay's tip: what each run holds at a time. */
export function overlayTip(comparison, time) {
  const rows = comparison.head.ways.flatMap((way) =>
    way.runs.map((run) => {
      const reading = comparison.timelines[run].reading(time);
      const line = wayLine(comparison.head, way, comparison.theme);
      return make("tr", {}, make("td", {}, line, comparison.label(run)), make("td", { class: "wb-number" }, reading ? formatBytes(reading.total) : "…"));
    }),
  );
  return [make("div", {}, make("strong", {}, formatTime(time)), " on the shared axis"), make("table", {}, make("tbody", {}, ...rows))];
}
