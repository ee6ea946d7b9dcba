// The entry of the widget in a notebook.

import { openComparison } from "./comparison.js";
import { hideStatic } from "./dom.js";
import { KernelSource } from "./sources.js";
import { Timeline } from "./timeline.js";

export async function render({ model, el }) {
  const source = new KernelSource(model);
  const options = model.get("options");
  const view = options.compares ? await openComparison(source, options) : new Timeline(source, await source.ask({ ask: "run" }), options);
  el.append(view.element);
  view.attach();
  hideStatic(options.static);
  return () => {
    view.detach();
    source.close();
  };
}
