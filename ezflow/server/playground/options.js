// The options of each stage, as a form made from the JSON Schema of a request. What differs from the defaults is sent.

import { el } from "./dom.js";
import * as storage from "./storage.js";

export class Options {
  #body;
  #count;
  #values = storage.options();
  #fields = [];
  #keys = [];

  constructor(body, count) {
    this.#body = body;
    this.#count = count;
  }

  /** Make the forms of a flow, from its description and the schema of its requests. */
  show(flow, schema) {
    const properties = schema.properties?.options?.properties ?? {};
    this.#keys = Object.keys(properties);
    this.#fields = [];
    const forms = this.#keys.map((key) => this.#form(key, resolved(properties[key], schema), flow, schema));
    if (!forms.length) forms.push(el("p", { class: "meta" }, "No stage of this flow has options."));
    this.#body.replaceChildren(...forms);
    this.#tell();
  }

  /** Say why there are none. */
  fail(words) {
    this.#body.replaceChildren(el("p", { class: "meta" }, words));
  }

  /** What is to be sent: the changed options by key, undefined if there are none. */
  changed(keys = this.#keys) {
    const sent = Object.entries(this.#values).filter(
      ([key, values]) => keys.includes(key) && Object.keys(values).length,
    );
    return sent.length ? Object.fromEntries(sent) : undefined;
  }

  /** Mark the field that the server refused, by its path `options.KEY.NAME`. */
  refuse(path, message) {
    const [, key, name] = path.split(/[.[]/);
    this.#fields.find((field) => field.key === key && field.name === name)?.complain(message);
  }

  #form(key, schema, flow, root) {
    const stages = flow.stages.filter(({ options }) => options === key).map(({ name }) => name);
    const fields = Object.entries(schema.properties ?? {}).map(([name, property]) =>
      this.#field(key, name, resolved(property, root)),
    );
    this.#fields.push(...fields);
    const title = stages.join(", ") || key;
    const reset = el("button", { type: "button", class: "small", click: () => this.#reset(key, fields) }, "Reset");
    return el(
      "form",
      { class: "option-form", "aria-label": `Options of ${title}`, submit: (event) => event.preventDefault() },
      el(
        "div",
        { class: "tools" },
        el("h3", {}, title, title === key ? "" : " ", title === key ? "" : el("code", {}, key)),
        reset,
      ),
      ...fields.map(({ element }) => element),
    );
  }

  #field(key, name, schema) {
    const id = `option-${key}-${name}`;
    const said = this.#values[key]?.[name];
    const input = control(schema, said);
    const error = el("span", { class: "field-error", id: `${id}-error`, hidden: true });
    const complain = (message) => {
      error.textContent = message;
      error.hidden = !message;
      if (message) input.element.setAttribute("aria-invalid", "true");
      else input.element.removeAttribute("aria-invalid");
    };
    const changed = () => {
      let value;
      try {
        value = input.read();
        complain(input.element.validationMessage ?? "");
      } catch (problem) {
        complain(problem.message);
      }
      this.#set(key, name, value);
      element.toggleAttribute("data-changed", value !== undefined);
    };
    input.element.id = id;
    input.element.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
    input.element.addEventListener("input", changed);
    const hint = el("span", { class: "meta", id: `${id}-hint` }, hintOf(schema));
    const element = el(
      "div",
      { class: "field", "data-changed": said !== undefined },
      el("label", { for: id }, name),
      input.element,
      hint,
      error,
    );
    const reset = () => {
      input.write(undefined);
      complain("");
      element.removeAttribute("data-changed");
    };
    return { key, name, element, complain, reset };
  }

  #set(key, name, value) {
    const values = (this.#values[key] ??= {});
    if (value === undefined) delete values[name];
    else values[name] = value;
    storage.setOptions(this.#values);
    this.#tell();
  }

  #reset(key, fields) {
    delete this.#values[key];
    storage.setOptions(this.#values);
    for (const field of fields) field.reset();
    this.#tell();
  }

  #tell() {
    const changes = Object.values(this.changed() ?? {}).reduce((sum, values) => sum + Object.keys(values).length, 0);
    this.#count.textContent = changes ? `${changes} changed` : "defaults";
  }
}

/** A schema without its `$ref`, and without the null of a nullable one: `nullable` says that instead. */
function resolved(schema, root) {
  if (schema.$ref) {
    const { $ref, ...rest } = schema;
    return {
      ...resolved(
        $ref
          .slice(2)
          .split("/")
          .reduce((at, part) => at?.[part], root) ?? {},
        root,
      ),
      ...rest,
    };
  }
  const kinds = (schema.anyOf ?? schema.oneOf ?? []).map((kind) => resolved(kind, root));
  const others = kinds.filter(({ type }) => type !== "null");
  if (others.length && others.length < kinds.length) {
    const { anyOf, oneOf, ...rest } = schema;
    const bare = others.length === 1 ? others[0] : { anyOf: others };
    return { ...bare, ...rest, nullable: true };
  }
  if (kinds.length && kinds.every(({ enum: values }) => values))
    return { ...schema, enum: kinds.flatMap((k) => k.enum) };
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((type) => type !== "null");
    if (types.length === 1) return { ...schema, type: types[0], nullable: types.length < schema.type.length };
  }
  return schema;
}

/** An element for a schema, how to read its value (undefined: the default) and how to set it. Reading may throw. */
function control(schema, said) {
  const standard = schema.default ?? null;
  const choices = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  if (choices) return choice(choices, standard, said);
  if (schema.type === "number" || schema.type === "integer") return number(schema, standard, said);
  const isText = schema.type === "string";
  const element = el("textarea", { rows: "1", spellcheck: String(isText), placeholder: placeholder(standard) });
  const show = (value) => {
    element.value = value === undefined ? "" : isText ? value : JSON.stringify(value);
  };
  const read = () => {
    if (element.value === "") return undefined;
    if (isText) return element.value;
    try {
      return JSON.parse(element.value);
    } catch {
      throw new Error("This takes JSON.");
    }
  };
  show(said);
  return { element, read, write: show };
}

function choice(choices, standard, said) {
  const words = (value) => (value === true ? "yes" : value === false ? "no" : String(value));
  const element = el(
    "select",
    {},
    el("option", { value: "" }, `default${standard === null ? "" : `: ${words(standard)}`}`),
    ...choices
      .filter((value) => value !== null)
      .map((value) => el("option", { value: JSON.stringify(value) }, words(value))),
  );
  const show = (value) => {
    element.value = value === undefined ? "" : JSON.stringify(value);
  };
  show(said);
  return { element, read: () => (element.value === "" ? undefined : JSON.parse(element.value)), write: show };
}

function number(schema, standard, said) {
  const isWhole = schema.type === "integer";
  const element = el("input", {
    type: "number",
    step: isWhole ? "1" : "any",
    inputmode: isWhole ? "numeric" : "decimal",
    min: schema.minimum ?? null,
    max: schema.maximum ?? null,
    placeholder: placeholder(standard),
  });
  const show = (value) => {
    element.value = value ?? "";
  };
  show(said);
  return { element, read: () => (element.value === "" ? undefined : element.valueAsNumber), write: show };
}

function placeholder(standard) {
  if (standard === null) return "default";
  if (standard === "") return "default: empty";
  return `default: ${typeof standard === "string" ? standard : JSON.stringify(standard)}`;
}

function hintOf({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum, description }) {
  const range = [
    minimum !== undefined ? `from ${minimum}` : "",
    exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "",
    maximum !== undefined ? `to ${maximum}` : "",
    exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : "",
  ]
    .filter(Boolean)
    .join(" ");
  const kind =
    { integer: "whole number", number: "number", boolean: "", string: "", object: "JSON", array: "JSON" }[type] ?? "";
  return [description, [kind, range].filter(Boolean).join(" ")].filter(Boolean).join(" · ");
}
