// The controls of a config, from their description: a new axis or field needs nothing here.

import { make } from "./dom.js";

/** Groups of controls; `choose(name, value)` promises that the value was taken. */
export class Controls {
  constructor(choose) {
    this.choose = choose;
    this.element = make("div", { class: "wb-groups" });
    this.problems = new Map();
  }

  show(form) {
    const focused = this.element.contains(document.activeElement) ? document.activeElement.name : null;
    this.element.replaceChildren(...form.groups.map((group) => this.makeGroup(group)));
    if (focused) this.element.querySelector(`[name="${CSS.escape(focused)}"]`)?.focus();
  }

  makeGroup({ name, question, controls }) {
    return make(
      "fieldset",
      { class: "wb-group" },
      make("legend", {}, name.replaceAll("_", " ")),
      make("p", { class: "wb-dim" }, question),
      ...controls.map((control) => this.makeControl(control)),
    );
  }

  makeControl(control) {
    const label = control.name.split(".").pop().replaceAll("_", " ");
    const input = control.options ? this.makeSelect(control) : this.makeInput(control);
    const problem = this.problems.get(control.name);
    const said = problem ? make("p", { class: "wb-problem", role: "alert" }, problem) : null;
    return make("div", { class: "wb-control" }, make("label", {}, make("span", {}, label), input), said, ...this.reasons(control));
  }

  makeSelect(control) {
    const options = control.options.map((one) =>
      make("option", { value: one.name, disabled: Boolean(one.why_not), selected: one.name === control.value, title: one.why_not || one.what }, one.name),
    );
    return make("select", { name: control.name, onchange: (event) => this.take(control, event.target.value) }, ...options);
  }

  makeInput(control) {
    const list = control.suggestions ? `wb-list-${control.name}` : null;
    const input = make("input", {
      name: control.name,
      type: "text",
      inputmode: control.number ? "numeric" : null,
      placeholder: control.empty,
      list,
      onchange: (event) => this.take(control, event.target.value.trim() || control.empty || ""),
    });
    input.value = this.problems.has(control.name) ? this.tried : control.value;
    if (!list) return input;
    return make("span", {}, input, make("datalist", { id: list }, ...control.suggestions.map((one) => make("option", { value: one }))));
  }

  /** What the chosen value does, and why others can not be chosen. */
  reasons({ options = [], value }) {
    const what = options.find((one) => one.name === value)?.what;
    const grouped = new Map();
    for (const one of options) if (one.why_not) grouped.set(one.why_not, [...(grouped.get(one.why_not) ?? []), one.name]);
    const lines = [...grouped].map(([reason, names]) => make("p", { class: "wb-reason" }, `Not here: ${names.join(", ")}. ${reason}`));
    return what ? [make("p", { class: "wb-reason" }, what), ...lines] : lines;
  }

  async take(control, value) {
    this.problems.clear();
    try {
      await this.choose(control.name, value);
    } catch (error) {
      this.tried = value;
      this.problems.set(control.name, error.message);
    }
    this.refresh();
  }
}
