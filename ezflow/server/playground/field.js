// One option of a stage: what it is filled in with, and what is wrong with that.

import { control, hintOf } from "./controls.js";
import { el } from "./dom.js";

export class Field {
  /** Does it hold what cannot be sent at all? */
  isUnreadable = false;

  #control;
  #error;
  #back;

  /** `value` is undefined for the default; `changed(value)` is called when the user gives another. */
  constructor({ key, name, schema, value, changed }) {
    const id = `option-${key}-${name}`;
    Object.assign(this, { key, name });
    this.#control = control(schema);
    this.input = this.#control.element;
    this.#error = el("span", { class: "field-error", id: `${id}-error`, hidden: true });
    const button = (words, given) => {
      const click = () => {
        this.show(given);
        changed(given);
      };
      return el("button", { type: "button", class: "small", "aria-label": `${name}: ${words}`, click }, words);
    };
    this.#back = button("Default", undefined);
    // What is typed cannot say that there is none.
    const isTyped = this.input.localName !== "select";
    const none = isTyped && schema.nullable && schema.default !== null ? button("None", null) : null;
    this.element = el(
      "div",
      { class: "field" },
      el("div", { class: "tools" }, el("label", { for: id }, name), none, this.#back),
      this.input,
      el("span", { class: "meta", id: `${id}-hint` }, hintOf(schema)),
      this.#error,
    );
    this.input.id = id;
    this.input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
    this.input.addEventListener("input", () => changed(this.#read()));
    this.show(value);
  }

  /** Say what is wrong with it; "" for nothing. */
  complain(message) {
    this.#error.textContent = message;
    this.#error.hidden = !message;
    this.input.setAttribute("aria-invalid", String(Boolean(message)));
  }

  show(value) {
    this.#control.show(value);
    this.isUnreadable = false;
    this.complain("");
    this.#mark(value);
  }

  #read() {
    let value;
    let problem = this.input.validationMessage;
    this.isUnreadable = false;
    try {
      value = this.#control.read();
      if (this.input.value === "") this.#control.show(value); // for what it stands, empty
    } catch (error) {
      this.isUnreadable = true;
      problem = error.message;
    }
    this.complain(problem);
    this.#mark(value);
    return value;
  }

  #mark(value) {
    this.element.toggleAttribute("data-changed", value !== undefined);
    this.#back.hidden = value === undefined && !this.isUnreadable;
  }
}
