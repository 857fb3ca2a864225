// The panels' headings, by which they are folded away and opened.

import { byId } from "./dom.js";

/** `changed` is called when a panel was opened or folded. */
export function setUpFolds(changed) {
  for (const fold of document.querySelectorAll(".fold")) {
    const body = byId(fold.getAttribute("aria-controls"));
    const show = (open) => {
      fold.setAttribute("aria-expanded", String(open));
      body.hidden = !open;
      changed();
    };
    fold.addEventListener("click", () => show(body.hidden));
    // On a phone they would stand between the reader and nothing else: only the timeline is open at first.
    if (matchMedia("(max-width: 46rem)").matches && body.id !== "timeline-body") show(false);
  }
}
