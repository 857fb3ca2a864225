// Making elements, and the few words that every part of the page formats alike. Text is only ever set as text.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element: `props` are attributes (a function is an event listener, null or false leaves one out). */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Listeners by the name of what happens. */
export class Emitter {
  #listeners = new Map();

  on(what, listener) {
    if (!this.#listeners.has(what)) this.#listeners.set(what, []);
    this.#listeners.get(what).push(listener);
  }

  emit(what, ...details) {
    for (const listener of this.#listeners.get(what) ?? []) listener(...details);
  }
}

/** Milliseconds as "0.42 s". */
export const inSeconds = (ms) => `${(ms / 1000).toFixed(2)} s`;

/** The beginning of a text, on one line. */
export function brief(text, length = 48) {
  const line = String(text).replace(/\s+/g, " ").trim();
  return line.length > length ? `${line.slice(0, length - 1).trimEnd()}…` : line;
}

/** Have a screen reader say something, once it has said what it is saying. */
export function announce(text) {
  const announcer = byId("announcer");
  announcer.textContent = "";
  requestAnimationFrame(() => {
    announcer.textContent = text;
  });
}

/** Call `draw` at most `perSecond` times a second; the last call is never lost. */
export function throttled(draw, perSecond) {
  let timer = 0;
  let drawnAt = 0;
  return () => {
    if (timer) return;
    const wait = Math.max(0, drawnAt + 1000 / perSecond - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      drawnAt = performance.now();
      draw();
    }, wait);
  };
}

/** Put a text on the clipboard; `button` says for a moment how that went. */
export async function copy(text, button) {
  const words = button.textContent;
  let outcome = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    outcome = "Not allowed";
  }
  button.textContent = outcome;
  announce(outcome);
  setTimeout(() => {
    button.textContent = words;
  }, 1500);
}
