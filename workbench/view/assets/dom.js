// Elements are made with text only: what comes from a run is never markup.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  for (const child of children) if (child != null) element.append(child);
  return element;
}

/** Whether a band or a tag is memory that an allocator holds and has given to nobody. */
export function isUnused(name) {
  return name === "unused" || name.endsWith(" unused");
}

/** A small square of a band's colour. */
export function makeSwatch(name, colour) {
  return make("span", { class: isUnused(name) ? "wb-swatch wb-striped" : "wb-swatch", style: `--wb-colour:${colour}` });
}

/** A row of buttons of which one is pressed. */
export function makeChoice(label, names, chosen, choose) {
  const buttons = names.map((name) =>
    make("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => press(name) }, name),
  );
  function press(name) {
    show(name);
    choose(name);
  }
  function show(name) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === name));
  }
  const element = make("div", { class: "wb-choice", role: "group", "aria-label": label }, ...buttons);
  return { element, show };
}

export function isDark() {
  const { body } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  if (body.classList.contains("vscode-light")) return false;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Calls back when the page turns from light to dark or back; returns what stops that. */
export function onTheme(callback) {
  const observer = new MutationObserver(callback);
  observer.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", callback);
  return () => {
    observer.disconnect();
    query.removeEventListener("change", callback);
  };
}

/** A canvas of this many CSS pixels, sharp on any screen; its context counts device pixels. */
export function fitCanvas(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.max(Math.round(width * ratio), 1), Math.max(Math.round(height * ratio), 1)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return { context: canvas.getContext("2d"), width: w, height: h, ratio };
}

/** The picture that a saved notebook shows is not needed beside the widget itself. */
export function hideStatic(name) {
  if (!name) return;
  for (const one of document.querySelectorAll("[data-workbench-static]")) {
    if (one.dataset.workbenchStatic === name) one.hidden = true;
  }
}
