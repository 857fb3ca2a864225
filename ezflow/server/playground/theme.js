// Light or dark: as the system says, until the Theme button says otherwise.

import { setTheme, theme } from "./storage.js";

const system = matchMedia("(prefers-color-scheme: dark)");

/** Show the remembered theme, and have `button` change it; `changed` is called when the colours are others. */
export function setUpTheme(button, changed) {
  const show = () => {
    const chosen = theme();
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.title = `Change to ${dark ? "light" : "dark"}`;
    changed();
    return dark;
  };
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    // The system's own choice is not remembered: the page goes on following it.
    setTheme(dark === system.matches ? null : dark ? "dark" : "light");
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    show();
  });
  system.addEventListener("change", show);
  show();
}
