// What is drawn on canvases: stacked bands, lines over them, phases, addresses. Everything here counts device pixels.

/** Bands one on the other, the highest first: each is one outline down to the bottom, for thousands of rectangles cost
 * five times as much to draw. Between two bands is a line of the ground's colour, where there is room for it. */
export function paintBands(context, box, { tops }, count, colours, top, ground) {
  const scale = box.height / top;
  for (let b = colours.length - 1; b >= 0; b--) {
    const height = (c) => tops[b * count + c] * scale;
    const own = (c) => (b ? height(c) - tops[(b - 1) * count + c] * scale : height(c));
    context.fillStyle = ground;
    fillUnder(context, box, count, (c) => (own(c) > 3 ? height(c) : 0));
    context.fillStyle = colours[b];
    fillUnder(context, box, count, (c) => (own(c) > 3 ? height(c) - 1 : height(c)));
  }
}

/** What is under a line that has one height in each column. Columns begin at whole pixels: between two that share one,
 * what is behind them would shine through. */
function fillUnder(context, box, count, heightOf) {
  const edge = (c) => Math.round(box.left + (c * box.width) / count);
  context.beginPath();
  context.moveTo(edge(0), box.bottom);
  let from = 0;
  let height = heightOf(0);
  for (let c = 1; c <= count; c++) {
    const next = c < count ? heightOf(c) : null;
    if (next === height) continue;
    context.lineTo(edge(from), box.bottom - height);
    context.lineTo(edge(c), box.bottom - height);
    from = c;
    height = next;
  }
  context.lineTo(edge(count), box.bottom);
  context.fill();
}

/** A line that goes in steps. */
export function paintSteps(context, box, { times, values }, window, top, style) {
  if (!times.length) return;
  const x = (time) => box.left + ((time - window.start) / (window.end - window.start)) * box.width;
  const y = (value) => Math.round(box.bottom - (value / top) * box.height) + 0.5;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  Object.assign(context, style);
  context.setLineDash(style.dash ?? []);
  context.beginPath();
  for (let i = 0; i < times.length; i++) {
    const next = i + 1 < times.length ? times[i + 1] : window.end;
    if (next < window.start || times[i] > window.end) continue;
    if (i) context.lineTo(x(times[i]), y(values[i]));
    else context.moveTo(x(times[i]), y(values[i]));
    context.lineTo(x(next), y(values[i]));
  }
  context.stroke();
  context.restore();
}

/** Readings of the truth: a dot each, and a dashed line from one to the next. */
export function paintReadings(context, box, { times, values }, window, top, colour) {
  const x = (time) => box.left + ((time - window.start) / (window.end - window.start)) * box.width;
  const y = (value) => box.bottom - (value / top) * box.height;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.25 * box.ratio;
  context.setLineDash([4 * box.ratio, 3 * box.ratio]);
  context.beginPath();
  for (let i = 0; i < times.length; i++) context.lineTo(x(times[i]), y(values[i]));
  context.stroke();
  for (let i = 0; i < times.length; i++) {
    context.beginPath();
    context.arc(x(times[i]), y(values[i]), 2 * box.ratio, 0, 7);
    context.fill();
  }
  context.restore();
}

/** Boxes in address and time. */
export function paintBoxes(context, box, answer, colours) {
  const { left, right, low, high, band } = answer.columns;
  const x = box.width / answer.columnsAsked;
  const y = box.height / answer.rows;
  const gap = 0.25;
  for (let i = 0; i < left.length; i++) {
    context.fillStyle = colours[band[i]];
    const width = Math.max((right[i] - left[i]) * x - gap, 0.75);
    const height = Math.max((high[i] - low[i]) * y - gap, 0.75);
    context.fillRect(box.left + left[i] * x, box.bottom - low[i] * y - height, width, height);
  }
}

/** Text that ends with … where it does not fit; nothing where not even that would tell much. */
export function paintLabel(context, text, left, width, middle) {
  if (width < 14) return;
  let shown = text;
  if (context.measureText(text).width > width) {
    let length = text.length;
    while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
    if (length < 3) return;
    shown = `${text.slice(0, length)}…`;
  }
  context.fillText(shown, left, middle);
}

/** Phases in rows: those that overlap lie below each other. */
export function layPhases(phases) {
  const order = phases.map((_, i) => i).sort((a, b) => phases[a].start - phases[b].start || phases[b].end - phases[a].end);
  const ends = [];
  const rows = new Array(phases.length);
  for (const i of order) {
    let row = ends.findIndex((end) => end <= phases[i].start);
    if (row < 0) row = ends.length;
    ends[row] = phases[i].end;
    rows[i] = row;
  }
  return { rows, count: ends.length };
}
