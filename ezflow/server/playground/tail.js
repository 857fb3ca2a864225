// Reading along: a list stays scrolled to its end, until its reader scrolls away from there.

export class Tail {
  follows = true;

  #list;
  #changed;

  /** `nearPx`: how near to the end counts as there; `changed(follows)` is called when the reader has scrolled. */
  constructor(list, nearPx, changed = () => {}) {
    this.#list = list;
    this.#changed = changed;
    let height = list.clientHeight;
    list.addEventListener("scroll", () => {
      if (list.clientHeight !== height) return; // not the reader: it is being resized, which is told next
      this.#become(list.scrollHeight - list.scrollTop - height < nearPx);
    });
    new ResizeObserver(() => {
      height = list.clientHeight;
      this.keep();
    }).observe(list);
  }

  /** Go to the end, and stay there. */
  follow() {
    this.#become(true);
    this.keep();
  }

  /** The list has grown. */
  keep() {
    if (this.follows) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #become(follows) {
    this.follows = follows;
    this.#changed(follows);
  }
}
