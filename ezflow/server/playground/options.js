// The options of each stage, as a form made from the JSON Schema of a request. What differs from the defaults is sent.

import { el } from "./dom.js";
import { Field } from "./field.js";
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

  /** The first Field of these stages that does not hold what can be sent; undefined if there is none. */
  unreadable(keys) {
    return this.#fields.find(({ key, isUnreadable }) => isUnreadable && keys.includes(key));
  }

  #form(key, schema, flow, root) {
    const stages = flow.stages.filter(({ options }) => options === key).map(({ name }) => name);
    const fields = Object.entries(schema.properties ?? {}).map(([name, property]) => {
      const changed = (value) => this.#set(key, name, value);
      return new Field({ key, name, schema: resolved(property, root), value: this.#values[key]?.[name], changed });
    });
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
    for (const field of fields) field.show(undefined);
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
