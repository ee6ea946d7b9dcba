// Where a page's answers come from that holds the runs itself: no kernel and no network.

import { unpack } from "./arrow.js";
import { ownFrame } from "./dom.js";
import { formatBytes } from "./format.js";
import { lastUntil } from "./series.js";

/** Answers of a run from what is embedded in the page: each piece is unpacked when it is first needed. */
export class PageSource {
  constructor(prefix = "") {
    this.prefix = prefix;
    this.pieces = new Map();
  }

  piece(name) {
    if (!this.pieces.has(name)) this.pieces.set(name, unpackPiece(this.prefix + name));
    return this.pieces.get(name);
  }

  ask(question) {
    return this[question.ask](question);
  }

  run() {
    return this.piece("run");
  }

  async series(question) {
    const of = `${question.tier} ${question.by}`;
    const isCoarse = !this.pieces.has(`overview ${of}`); // is unpacked at once: what is finer comes after it
    const answer = { ...(await this.piece(`${isCoarse ? "overview" : "series"} ${of}`)), isCoarse };
    if (!question.match) return answer;
    const { columns } = await this.piece(`allocations ${question.tier}`);
    const steps = sumUp(columns, await this.chosen(question, columns));
    return { ...answer, columns: { ...answer.columns, match_time: steps.times, match: steps.values } };
  }

  async ledger({ tier, by, at }) {
    const answer = await this.piece(`series ${tier} ${by}`);
    const sample = Math.max(lastUntil(answer.columns.time, at), 0);
    const held = answer.bands
      .map((band, b) => ({ name: band.name, bytes: answer.columns[`band ${b}`][sample] }))
      .filter((one) => one.bytes)
      .sort((a, b) => b.bytes - a.bytes);
    const explained = held.reduce((sum, one) => sum + one.bytes, 0);
    const ledger = { tier, at, used: null, explained, unexplained: null, error: 0, note: `handed out ${formatBytes(explained)}, by ${by}` };
    return { ledger, columns: { owner: held.map((one) => (by === "owner" ? one.name : "")), tag: held.map((one) => (by === "tag" ? one.name : "")), bytes: held.map((one) => one.bytes) } };
  }

  async allocations(question) {
    const answer = await this.piece(`allocations ${question.tier}`);
    const { columns } = answer;
    const isIn = (i) => columns.start[i] <= question.end && !(columns.end[i] <= question.start);
    const found = (await this.chosen(question, columns)).filter(isIn);
    const of = { bytes: (i) => columns.bytes[i], start: (i) => columns.start[i], lifetime: (i) => lifetime(columns, i) }[question.order];
    const sign = question.descending ? -1 : 1;
    found.sort((a, b) => (of(a) === of(b) ? a - b : of(a) < of(b) ? -sign : sign));
    const page = found.slice(question.offset, question.offset + question.limit);
    const picked = Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, page.map((i) => column[i])]));
    const frames = await this.piece("stacks");
    picked.top = picked.stack.map((stack) => framesOf(frames, stack)[0] ?? "");
    return { count: found.length, bytes: found.reduce((sum, i) => sum + columns.bytes[i], 0), held: columns.bytes.length, known: answer.known, columns: picked };
  }

  async stack({ stack }) {
    return { columns: { frame: framesOf(await this.piece("stacks"), stack) } };
  }

  addresses({ tier, by }) {
    return this.piece(`addresses ${tier} ${by}`);
  }

  /** The embedded allocations of a band, or that match a text. */
  async chosen({ band, by, match }, columns) {
    let found = Array.from(columns.bytes, (_, i) => i);
    if (band) found = found.filter((i) => columns[`band by ${by}`][i] === band);
    if (!match) return found;
    const frames = await this.piece("stacks");
    const wanted = match.toLowerCase();
    const holds = (text) => text.toLowerCase().includes(wanted);
    const stacks = new Map();
    const inStack = (stack) => {
      if (!stacks.has(stack)) stacks.set(stack, framesOf(frames, stack).some(holds));
      return stacks.get(stack);
    };
    return found.filter((i) => holds(columns.owner[i]) || holds(columns.tag[i]) || inStack(columns.stack[i]));
  }
}

function lifetime(columns, i) {
  return Number.isNaN(columns.end[i]) ? Infinity : columns.end[i] - columns.start[i];
}

function framesOf({ columns }, stack) {
  const place = lastUntil(columns.stack, stack);
  if (place < 0 || columns.stack[place] !== stack) return [];
  return Array.from(columns.code.subarray(columns.until[place] - columns.count[place], columns.until[place]), (code) => columns.text[code]);
}

function sumUp(columns, chosen) {
  const changes = [[0, 0]];
  for (const i of chosen) {
    changes.push([columns.start[i], columns.bytes[i]]);
    if (!Number.isNaN(columns.end[i])) changes.push([columns.end[i], -columns.bytes[i]]);
  }
  changes.sort((a, b) => a[0] - b[0]);
  let sum = 0;
  return { times: changes.map(([time]) => time), values: changes.map(([, change]) => (sum += change)) };
}

/** Answers of compared runs: what is asked of one of them is its own source's to answer. */
export class PagesSource extends PageSource {
  constructor() {
    super();
    this.runs = new Map();
  }

  ask(question) {
    if (!("run" in question)) return super.ask(question);
    if (!this.runs.has(question.run)) this.runs.set(question.run, new PageSource(`${question.run} `));
    return this.runs.get(question.run).ask(question);
  }

  comparison() {
    return this.piece("comparison");
  }

  speeds() {
    return this.piece("speeds");
  }

  deltas({ tier, by, way }) {
    return this.piece(`deltas ${tier} ${by} ${way}`);
  }
}

export function pageOptions() {
  return JSON.parse(document.getElementById("options").textContent);
}

export function showOnPage(view) {
  document.getElementById("place").append(view.element);
  view.attach();
  fitFrame(view.element);
}

/** Where the page stands in a frame of a page that it may touch, the frame is made as high as what it shows. */
function fitFrame(element) {
  const frame = ownFrame();
  if (!frame) return;
  new ResizeObserver(() => (frame.style.height = `${Math.ceil(element.getBoundingClientRect().height) + 2}px`)).observe(element);
}

async function unpackPiece(name) {
  const text = document.querySelector(`script[data-piece="${name}"]`).textContent;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return unpack(await new Response(stream).arrayBuffer());
}
