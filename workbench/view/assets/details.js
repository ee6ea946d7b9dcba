// What is told below the picture: the ledger of a moment, and the allocations of a band or of a search.

import { make, makeSwatch } from "./dom.js";
import { formatBytes, formatCount, formatShare, formatTime } from "./format.js";

const PAGE = 50;

/** The ledger of a moment: every owner and tag, largest first, with what nothing explains. */
export function makeLedger({ ledger, columns }, at, colourOf, choose) {
  const whole = ledger.used ?? ledger.explained;
  const names = ["owner", "tag"].filter((name) => columns[name].some(Boolean));
  const body = make("tbody");
  columns.owner.forEach((owner, i) => {
    const tag = columns.tag[i];
    const button = make("button", { type: "button", class: "wb-link", onclick: () => choose(owner, tag) }, owner || tag);
    const swatch = makeSwatch(tag || owner, colourOf(owner, tag));
    body.append(ledgerRow(make("td", {}, swatch, button), names.length > 1 ? owner && tag : null, columns.bytes[i], whole));
  });
  if (ledger.unexplained !== null) {
    const name = make("td", { title: "in use, but no event and no measurement explains it" }, "unexplained");
    body.append(ledgerRow(name, names.length > 1 ? "" : null, ledger.unexplained, whole));
  }
  return make(
    "section",
    { class: "wb-panel", "aria-label": "ledger" },
    make("h3", {}, `${ledger.tier} at ${at}`),
    make("p", {}, describeUsed(ledger)),
    make("div", { class: "wb-scroll" }, make("table", {}, head([...names, "bytes>", "share>", ""]), body)),
  );
}

/** What is used, and what is known of the time since that was read. */
function describeUsed({ note, used, unexplained, age, error }) {
  if (note) return note;
  if (used === null) return "nobody can tell what is used here";
  const said = `used ${formatBytes(used)}`;
  if (error) return `${said}, measured before; since then up to ${formatBytes(error)} came or went`;
  return unexplained && age ? `${said}, read ${formatTime(age)} before: what came or went since is in “unexplained”` : said;
}

function ledgerRow(name, tag, bytes, whole) {
  const share = whole ? bytes / whole : 0;
  const bar = make("span", { class: "wb-bar", style: `width:${(Math.max(share, 0) * 100).toFixed(1)}%` });
  return make(
    "tr",
    {},
    name,
    tag === null ? null : make("td", { class: "wb-dim" }, tag),
    make("td", { class: "wb-number" }, formatBytes(bytes)),
    make("td", { class: "wb-number" }, formatShare(share)),
    make("td", { class: "wb-bars" }, bar),
  );
}

function head(names) {
  const cells = names.map((name) =>
    make("th", { scope: "col", class: name.endsWith(">") ? "wb-number" : "" }, name.replace(">", "")),
  );
  return make("thead", {}, make("tr", {}, ...cells));
}

export const MEASURED = "No allocation of it was recorded: it was measured as a whole.";

/** What stands in the place of allocations where there are none to list. */
export function makeMeasured(name) {
  return make("section", { class: "wb-panel", "aria-label": "allocations" }, make("h3", {}, name), make("p", {}, MEASURED));
}

/** Pages of allocations, which can be ordered; a click on one shows its stack. */
export class AllocationTable {
  constructor(source, question, title) {
    this.source = source;
    this.question = { ask: "allocations", order: "bytes", descending: true, limit: PAGE, offset: 0, ...question };
    this.note = make("p", {}, "…");
    this.place = make("div", { class: "wb-scroll" });
    this.pager = make("div", { class: "wb-pager" });
    this.element = make(
      "section",
      { class: "wb-panel", "aria-label": "allocations" },
      make("h3", {}, title),
      this.note,
      this.place,
      this.pager,
    );
    this.load();
  }

  async load() {
    try {
      this.show(await this.source.ask(this.question));
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  show(answer) {
    const { columns, count, bytes } = answer;
    const held = answer.held == null || answer.held === answer.known ? "" : ` of the ${formatCount(answer.held)} largest, which this page holds`;
    this.note.textContent = `${formatCount(count)} ${count === 1 ? "allocation" : "allocations"}${held}, ${formatBytes(bytes)} in all`;
    const body = make("tbody");
    columns.bytes.forEach((_, i) => body.append(...this.row(columns, i)));
    this.place.replaceChildren(make("table", {}, this.head(), body));
    this.showPager(count);
  }

  head() {
    const cell = (name, order) => {
      if (!order) return make("th", { scope: "col" }, name);
      const chosen = this.question.order === order;
      const arrow = chosen ? (this.question.descending ? " ↓" : " ↑") : "";
      const sorted = chosen ? (this.question.descending ? "descending" : "ascending") : "none";
      const button = make("button", { type: "button", class: "wb-link", onclick: () => this.orderBy(order) }, name + arrow);
      return make("th", { scope: "col", class: "wb-number", "aria-sort": sorted }, button);
    };
    const cells = [cell("bytes", "bytes"), cell("from", "start"), cell("for", "lifetime"), cell("owner"), cell("tag"), cell("asked by")];
    return make("thead", {}, make("tr", {}, ...cells));
  }

  row(columns, i) {
    const isAlive = Number.isNaN(columns.end[i]);
    const stack = make("tr", { class: "wb-stack", hidden: true }, make("td", { colspan: 6 }));
    const open = make("button", { type: "button", class: "wb-link", "aria-expanded": "false" }, shortFrame(columns.top[i]) || "…");
    open.title = columns.top[i];
    open.addEventListener("click", () => this.openStack(open, stack, columns, i));
    const row = make(
      "tr",
      {},
      make("td", { class: "wb-number" }, formatBytes(columns.bytes[i])),
      make("td", { class: "wb-number" }, formatTime(columns.start[i], 1e5)),
      make("td", { class: "wb-number" }, isAlive ? "to the end" : formatTime(columns.end[i] - columns.start[i])),
      make("td", {}, columns.owner[i]),
      make("td", { class: "wb-dim" }, columns.tag[i]),
      make("td", { class: "wb-frame" }, open),
    );
    return [row, stack];
  }

  async openStack(button, row, columns, i) {
    const isOpen = row.hidden;
    row.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return;
    const cell = row.firstChild;
    cell.replaceChildren(make("p", {}, `address ${columns.address[i]}, process ${columns.process[i]}`));
    if (!columns.stack[i]) return cell.append(make("p", {}, "no stack was recorded"));
    const answer = await this.source.ask({ ask: "stack", stack: columns.stack[i] });
    const frames = answer.columns.frame.map((frame) => make("li", {}, frame));
    cell.append(make("ol", {}, ...frames));
  }

  orderBy(order) {
    const descending = this.question.order === order ? !this.question.descending : true;
    Object.assign(this.question, { order, descending, offset: 0 });
    this.load();
  }

  showPager(count) {
    const { offset } = this.question;
    const go = (to) => () => {
      this.question.offset = to;
      this.load();
    };
    const last = Math.min(offset + PAGE, count);
    this.pager.replaceChildren(
      make("button", { type: "button", disabled: offset === 0, onclick: go(Math.max(offset - PAGE, 0)) }, "‹ previous"),
      make("span", {}, count ? `${formatCount(offset + 1)} to ${formatCount(last)} of ${formatCount(count)}` : "none"),
      make("button", { type: "button", disabled: last >= count, onclick: go(offset + PAGE) }, "next ›"),
    );
    this.pager.hidden = count <= PAGE;
  }
}

/** A frame's file without its folders, and its function. */
export function shortFrame(frame) {
  const space = frame.indexOf(" ", frame.lastIndexOf("/") + 1);
  const [file, name] = space < 0 ? [frame, ""] : [frame.slice(0, space), frame.slice(space + 1)];
  return `${name} ${file.slice(file.lastIndexOf("/") + 1)}`.trim();
}
