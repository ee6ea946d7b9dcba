// What the pointer and the keys do to a timeline.

import { make } from "./dom.js";
import { formatTime } from "./format.js";
import { tipOf, tipOfBox } from "./picture.js";

const STILL = 4; // CSS pixels: what moves less is a click

const DRAGS = "Drag to pan, Shift-drag to zoom into a part. The wheel zooms with Ctrl, and without once the chart was clicked.";
const KEYS = "Keys: ← → move the cursor (Shift: faster), Enter tells its ledger, A D pan, W S zoom, [ ] go to the next phase, 0 shows the whole run.";

/** What the pointer and the keys do, to unfold; a screen reader tells the keys with the chart. */
export function makeHelp(chart, clicks) {
  chart.setAttribute("aria-description", KEYS);
  const lines = [clicks, DRAGS, KEYS].map((line) => make("p", {}, line));
  return make("details", { class: "wb-help" }, make("summary", {}, "Mouse and keys"), ...lines);
}

export class Gestures {
  constructor(timeline) {
    this.timeline = timeline;
    this.picture = timeline.picture;
    const { chart, strip } = this.picture;
    this.stopping = new AbortController();
    const on = (element, name, act, options = {}) =>
      element.addEventListener(name, act, { signal: this.stopping.signal, ...options });
    on(chart, "pointermove", (event) => this.move(event));
    on(chart, "pointerleave", () => this.leave());
    on(chart, "pointerdown", (event) => this.press(event));
    on(chart, "pointerup", (event) => this.release(event));
    on(chart, "pointercancel", () => this.cancel());
    on(chart, "wheel", (event) => this.wheel(event), { passive: false });
    on(chart, "keydown", (event) => this.key(event));
    on(strip, "pointerdown", (event) => this.seek(event));
    on(strip, "pointermove", (event) => event.buttons && this.seek(event));
  }

  close() {
    this.stopping.abort();
  }

  place(event) {
    const bounds = this.picture.canvas.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  }

  time(event) {
    return this.picture.timeAt(this.place(event).x, this.timeline.state.window);
  }

  press(event) {
    if (event.button) return;
    this.picture.chart.setPointerCapture(event.pointerId);
    const { x } = this.place(event);
    this.pressed = { x, time: this.time(event), window: this.timeline.state.window, isZoom: event.shiftKey, moved: false };
  }

  move(event) {
    const { timeline, picture, pressed } = this;
    const { x, y } = this.place(event);
    if (pressed) {
      pressed.moved ||= Math.abs(x - pressed.x) > STILL;
      if (pressed.moved) this.drag(x, event);
      return;
    }
    const phase = picture.phaseAt(x, y, timeline);
    timeline.hoveredPhase = phase;
    timeline.pointed = phase < 0 ? this.time(event) : null;
    picture.chart.style.cursor = phase < 0 ? "crosshair" : "zoom-in";
    const isInside = timeline.pointed >= timeline.state.window.start && timeline.pointed <= timeline.state.window.end;
    picture.showTip(x, y, phase >= 0 ? this.phaseTip(phase) : isInside ? this.tip(x, y) : []);
    timeline.redraw();
  }

  tip(x, y) {
    const { timeline, picture } = this;
    if (timeline.tip) return timeline.tip(timeline.pointed);
    if (timeline.state.view === "addresses") return tipOfBox(picture.boxAt(x, y, timeline), timeline.pointed);
    return tipOf(timeline.reading(timeline.pointed), picture.bandAt(x, y, timeline));
  }

  drag(x, event) {
    const { timeline, pressed } = this;
    this.picture.showTip(0, 0, []);
    if (pressed.isZoom) {
      timeline.selection = [pressed.time, this.time(event)];
      timeline.redraw();
    } else {
      const by = this.picture.share(pressed.x - x) * (pressed.window.end - pressed.window.start);
      timeline.show({ start: pressed.window.start + by, end: pressed.window.end + by });
    }
  }

  release(event) {
    const { timeline, pressed, picture } = this;
    this.pressed = null;
    if (!pressed) return;
    if (timeline.selection) {
      const [a, b] = [...timeline.selection].sort((one, other) => one - other);
      timeline.selection = null;
      timeline.show({ start: a, end: b });
    } else if (!pressed.moved) {
      const { x, y } = this.place(event);
      const phase = picture.phaseAt(x, y, timeline);
      if (phase >= 0) this.enter(timeline.phases[phase]);
      else timeline.tell(Math.max(this.time(event), 0), picture.bandAt(x, y, timeline));
    }
  }

  cancel() {
    this.pressed = null;
    this.timeline.selection = null;
  }

  leave() {
    this.timeline.pointed = null;
    this.timeline.hoveredPhase = -1;
    this.picture.showTip(0, 0, []);
    this.timeline.redraw();
  }

  /** The wheel zooms where it is meant to: with Ctrl, or once the chart was clicked; else the page scrolls. */
  wheel(event) {
    const { timeline, picture } = this;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      timeline.pan(picture.share(event.deltaX));
    } else if (event.ctrlKey || event.metaKey || document.activeElement === picture.chart || picture.chart.getRootNode().activeElement === picture.chart) {
      event.preventDefault();
      timeline.zoom(Math.exp(Math.max(Math.min(event.deltaY, 120), -120) * 0.004), this.time(event));
    }
  }

  enter(phase) {
    const margin = (phase.end - phase.start) * 0.03;
    this.timeline.show({ start: phase.start - margin, end: phase.end + margin });
  }

  phaseTip(place) {
    const phase = this.timeline.phases[place];
    return [make("div", {}, make("strong", {}, phase.name), ` ${formatTime(phase.end - phase.start)}, from ${formatTime(phase.start, 1e6)}`)];
  }

  seek(event) {
    const bounds = this.picture.strip.getBoundingClientRect();
    const at = this.picture.overviewTime(event.clientX - bounds.left, this.timeline);
    const half = (this.timeline.state.window.end - this.timeline.state.window.start) / 2;
    this.timeline.show({ start: at - half, end: at + half });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.picture.chart) return;
    const { timeline } = this;
    const { window } = timeline.state;
    const step = ((window.end - window.start) / 100) * (event.shiftKey ? 10 : 1);
    const cursor = timeline.state.cursor ?? (window.start + window.end) / 2;
    const acts = {
      ArrowLeft: () => this.moveCursor(cursor - step),
      ArrowRight: () => this.moveCursor(cursor + step),
      Home: () => this.moveCursor(0),
      End: () => this.moveCursor(timeline.whole().end),
      Enter: () => timeline.tell(cursor, null),
      a: () => timeline.pan(-0.2),
      d: () => timeline.pan(0.2),
      w: () => timeline.zoom(1 / 1.5, cursor),
      s: () => timeline.zoom(1.5, cursor),
      "+": () => timeline.zoom(1 / 1.5, cursor),
      "-": () => timeline.zoom(1.5, cursor),
      0: () => timeline.show(timeline.whole()),
      "[": () => this.nextPhase(-1, cursor),
      "]": () => this.nextPhase(1, cursor),
    };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  moveCursor(time) {
    const { timeline } = this;
    const at = Math.min(Math.max(time, 0), timeline.whole().end);
    timeline.state.cursor = at;
    const { start, end } = timeline.state.window;
    if (at < start || at > end) timeline.show({ start: at - (end - start) / 2, end: at + (end - start) / 2 });
    else timeline.redraw();
    this.speak(at);
  }

  nextPhase(direction, cursor) {
    const starts = this.timeline.phases.map((phase) => phase.start).sort((a, b) => a - b);
    const next = direction > 0 ? starts.find((start) => start > cursor + 1) : starts.findLast((start) => start < cursor - 1);
    if (next != null) this.moveCursor(next);
  }

  speak(time) {
    this.timeline.live.textContent = this.timeline.spoken(time);
  }
}
