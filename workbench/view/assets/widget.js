// The entry of the widget in a notebook.

import { openComparison } from "./comparison.js";
import { hideStatic, keepKeys } from "./dom.js";
import { KernelSource } from "./sources.js";
import { Timeline } from "./timeline.js";

export async function render({ model, el }) {
  const source = new KernelSource(model);
  const options = model.get("options");
  const view = options.compares ? await openComparison(source, options) : new Timeline(source, await source.ask({ ask: "run" }), options);
  keepKeys(view.element);
  el.append(view.element, hideStatic(options.static));
  view.attach();
  return () => {
    view.detach();
    source.close();
  };
}
