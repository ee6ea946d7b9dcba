// The entry of the workbench panel: choose, record, compare, generate. What happens is told by the kernel's traits.

import { decode } from "./arrow.js";
import { openComparison } from "./comparison.js";
import { Controls } from "./controls.js";
import { hideStatic, isDark, keepKeys, make, onTheme } from "./dom.js";
import { formatBytes } from "./format.js";
import { LiveChart } from "./live.js";
import { KernelSource } from "./sources.js";
import { Timeline } from "./timeline.js";

const STATES = {
  idle: "No engine is loaded.",
  loading: "Loading",
  ready: "Ready:",
  answering: "Answering",
  ending: "Ending, and sealing the run of",
};

export class Panel {
  constructor(model) {
    this.model = model;
    this.source = new KernelSource(model);
    this.chosen = new Set();
    this.known = 0;
    this.build(model.get("options"));
  }

  build({ prompt, max_tokens }) {
    this.controls = new Controls((name, value) => this.source.ask({ ask: "choose", name, value }));
    this.controls.refresh = () => this.showForm();
    this.prompt = make("textarea", { rows: 3, "aria-label": "prompt" });
    this.prompt.value = prompt;
    this.most = make("input", { type: "number", min: 1, value: max_tokens, name: "max_tokens" });
    this.temperature = make("input", { type: "number", min: 0, step: 0.1, value: 0, name: "temperature" });
    const button = (text, ask, title) => make("button", { type: "button", title, onclick: () => this.act(ask) }, text);
    this.buttons = {
      record: button("Record", "record", "answer the prompt by an engine of its own, and keep the run"),
      generate: button("Generate", "generate", "answer the prompt; the engine stays loaded for the next one"),
      stop: button("Stop", "stop", "end what is going on"),
      end: button("End engine", "end", "end the engine, and keep its run"),
    };
    this.buttons.record.classList.add("wb-primary");
    this.problem = make("p", { class: "wb-problem", role: "alert", hidden: true });
    this.state = make("p", { class: "wb-state", role: "status" });
    this.progress = make("progress", { max: 1, value: 0, "aria-label": "progress" });
    this.answer = make("div", { class: "wb-answer", role: "log", tabindex: "0", "aria-label": "answer" });
    this.live = new LiveChart();
    this.runs = make("div", { class: "wb-runs" });
    this.view = make("div", { class: "wb-shown" });
    const rules = make("div", { class: "wb-rules" }, make("label", {}, make("span", {}, "max tokens"), this.most), make("label", {}, make("span", {}, "temperature"), this.temperature));
    const ask = make("div", { class: "wb-ask" }, this.prompt, make("div", { class: "wb-actions" }, rules, make("span", { class: "wb-buttons" }, ...Object.values(this.buttons))));
    const right = make("div", { class: "wb-work" }, ask, this.problem, make("div", { class: "wb-now" }, this.state, this.progress), this.answer, this.live.element, this.runs);
    this.element = make("div", { class: "wb-root wb-bench" }, make("div", { class: "wb-columns" }, this.controls.element, right), this.view);
  }

  attach() {
    const heard = { "change:form": () => this.showForm(), "change:status": () => this.showStatus(), "change:text": () => this.showText(), "change:listed": () => this.showRuns() };
    this.hear = (message, buffers) => this.receive(message, buffers);
    for (const [name, callback] of Object.entries(heard)) this.model.on(name, callback);
    this.model.on("msg:custom", this.hear);
    this.forget = () => {
      for (const [name, callback] of Object.entries(heard)) this.model.off(name, callback);
      this.model.off("msg:custom", this.hear);
    };
    this.setTheme();
    this.stopTheme = onTheme(() => this.setTheme());
    this.resizing = new ResizeObserver(() => this.live.resize(Math.floor(this.answer.clientWidth)));
    this.resizing.observe(this.answer);
    this.showForm();
    this.showStatus();
    this.showText();
    this.showRuns();
    this.source.ask({ ask: "live" }).then((answer) => this.live.receive(answer), () => {});
  }

  detach() {
    this.forget();
    this.stopTheme();
    this.resizing.disconnect();
    this.shown?.detach();
    this.source.close();
  }

  setTheme() {
    this.element.dataset.theme = isDark() ? "dark" : "light";
    this.live.setTheme(this.element.dataset.theme);
  }

  receive(message, buffers) {
    if (message.live && !message.id) this.live.receive({ ...message, columns: decode(message.columns, buffers) });
  }

  async act(ask) {
    this.complain(null);
    const rules = { prompt: this.prompt.value, max_tokens: Number(this.most.value), temperature: Number(this.temperature.value) };
    if (ask === "record" || (ask === "generate" && this.model.get("status").state === "idle")) this.live.clear();
    try {
      await this.source.ask(ask === "record" || ask === "generate" ? { ask, ...rules } : { ask });
    } catch (error) {
      this.complain(error.message);
    }
  }

  complain(what) {
    this.problem.textContent = what ?? "";
    this.problem.hidden = !what;
  }

  showForm() {
    const form = this.model.get("form");
    this.controls.show(form);
    this.complain(form.refused);
    this.enable();
  }

  enable() {
    const { state, busy } = this.model.get("status");
    const refused = Boolean(this.model.get("form").refused);
    this.buttons.record.disabled = this.buttons.generate.disabled = busy || refused;
    this.buttons.stop.disabled = state !== "loading" && state !== "answering";
    this.buttons.end.disabled = state !== "ready";
  }

  showStatus() {
    const { state, model, tokens, most, seconds, error } = this.model.get("status");
    if (state === "idle") this.live.rest();
    const speed = tokens > 1 && seconds > 0 ? `, ${(tokens / seconds).toFixed(1)} tokens/s` : "";
    const last = state === "idle" || state === "ready" ? " The last answer:" : " ·";
    const count = tokens ? `${last} ${tokens}${state === "answering" ? ` of at most ${most}` : ""} ${tokens === 1 ? "token" : "tokens"}${speed}` : "";
    this.state.textContent = `${STATES[state]}${model ? ` ${model}` : ""}${state === "ready" ? "." : ""}${count}`;
    const isKnown = state === "answering" && tokens;
    if (isKnown) this.progress.value = tokens / most;
    else if (state === "idle" || state === "ready") this.progress.value = 0;
    else this.progress.removeAttribute("value");
    this.progress.style.visibility = state === "idle" || state === "ready" ? "hidden" : "visible";
    this.element.dataset.state = state;
    this.complain(error ?? this.model.get("form").refused);
    this.enable();
  }

  showText() {
    const isAtEnd = this.answer.scrollHeight - this.answer.scrollTop - this.answer.clientHeight < 40;
    this.answer.textContent = this.model.get("text");
    if (isAtEnd) this.answer.scrollTop = this.answer.scrollHeight;
  }

  showRuns() {
    const listed = this.model.get("listed");
    if (listed.length > this.known) {
      this.chosen.add(listed.length - 1);
      this.showView();
    }
    this.known = listed.length;
    if (!listed.length) return this.runs.replaceChildren();
    const rows = listed.map((run, place) => this.makeRow(run, place));
    const head = make("tr", {}, ...["shown", "run", "settings", "tokens/s", "peak"].map((name) => make("th", { scope: "col" }, name)));
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
    this.runs.replaceChildren(make("h3", {}, "Recorded here"), make("p", { class: "wb-dim" }, "Chosen runs are shown below, two or more of them compared."), make("div", { class: "wb-scroll" }, table));
  }

  makeRow(run, place) {
    const box = make("input", { type: "checkbox", "aria-label": `show ${run.id}`, checked: this.chosen.has(place), onchange: (event) => this.pick(place, event.target.checked) });
    const peak = Object.entries(run.peak).map(([tier, size]) => `${tier} ${formatBytes(size)}`).join(", ");
    const speed = run.tokens_per_s == null ? "" : run.tokens_per_s.toFixed(1);
    const cells = [run.status === "complete" ? run.name : `${run.name} (${run.status})`, run.settings.join(", ") || "as it comes", speed, peak];
    return make("tr", { title: run.id }, make("td", {}, box), ...cells.map((text, i) => make("td", { class: i === 1 ? "wb-wrap" : "" }, text)));
  }

  pick(place, isChosen) {
    if (isChosen) this.chosen.add(place);
    else this.chosen.delete(place);
    this.showView();
  }

  /** The chosen runs: a timeline, or a comparison. */
  async showView() {
    const runs = [...this.chosen].sort((a, b) => a - b);
    try {
      await this.source.ask({ ask: "shown", runs });
      const view = runs.length > 1 ? await openComparison(this.source) : runs.length ? new Timeline(this.source, await this.source.ask({ ask: "run" })) : null;
      this.shown?.detach();
      this.shown = view;
      this.view.replaceChildren(...(view ? [view.element] : []));
      view?.attach();
    } catch (error) {
      this.complain(error.message);
    }
  }
}

export function render({ model, el }) {
  const panel = new Panel(model);
  keepKeys(panel.element);
  el.append(panel.element, hideStatic(model.get("options").static));
  panel.attach();
  return () => panel.detach();
}
