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

/** The frame of this page, where it stands in one of a page that it may touch. */
export function ownFrame() {
  try {
    return window.frameElement;
  } catch {
    return null; // of another origin
  }
}

/** What tells the theme: this page, or the one that it stands in a frame of, as a saved view does in a notebook. */
function themed() {
  return (ownFrame()?.ownerDocument ?? document).body;
}

export function isDark() {
  const body = themed();
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  if (body.classList.contains("vscode-light")) return false;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Calls back when the page turns from light to dark or back; returns what stops that. */
export function onTheme(callback) {
  const observer = new MutationObserver(callback);
  observer.observe(themed(), { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
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

/** Keeps a view's keys from the notebook around it, which cuts a cell at an x and runs one at Ctrl-Enter. */
export function keepKeys(element) {
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || !(event.ctrlKey || event.metaKey || event.altKey)) event.stopPropagation();
  });
}

/** Hides the picture that a saved notebook shows, also one that comes later, as long as this is beside the widget. */
export function hideStatic(name) {
  return make("style", {}, name ? `[data-workbench-static="${CSS.escape(name)}"] { display: none; }` : "");
}
