// The entry of the widget in a notebook.

import { KernelSource } from "./sources.js";
import { Timeline } from "./timeline.js";

export async function render({ model, el }) {
  const source = new KernelSource(model);
  const head = await source.ask({ ask: "run" });
  const timeline = new Timeline(source, head, model.get("options"));
  el.append(timeline.element);
  timeline.attach();
  timeline.element.addEventListener("wb-drawn", () => hideStatic(model.get("options").static), { once: true });
  return () => {
    timeline.detach();
    source.close();
  };
}

/** The picture that a saved notebook shows is not needed beside the widget itself. */
function hideStatic(name) {
  if (!name) return;
  for (const one of document.querySelectorAll("[data-workbench-static]")) {
    if (one.dataset.workbenchStatic === name) one.hidden = true;
  }
}
