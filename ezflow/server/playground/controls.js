// The elements that options are filled in with, made from their schemas.
//
// A value is undefined as long as it is the default, which an empty control stands for; null is one of its own.

import { el } from "./dom.js";

const KINDS = { integer: "whole number", number: "number", object: "JSON", array: "JSON" };

/** An element for a schema (`resolved`), how to read its value, and how to show one. Reading may throw an Error. */
export function control(schema) {
  const choices = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  if (choices) return choice(choices, schema);
  if (schema.type === "integer" || schema.type === "number") return number(schema);
  return schema.type === "string" ? text(schema) : json(schema);
}

/** What may be filled in, in words. */
export function hintOf({ type, minimum, exclusiveMinimum, maximum, exclusiveMaximum, description }) {
  const [least, most] = [minimum !== undefined, maximum !== undefined];
  const said = [
    KINDS[type],
    least && (most ? `${minimum} to ${maximum}` : `${minimum} or more`),
    exclusiveMinimum !== undefined && `more than ${exclusiveMinimum}`,
    most && !least && `${maximum} or less`,
    exclusiveMaximum !== undefined && `less than ${exclusiveMaximum}`,
  ];
  return [description, said.filter(Boolean).join(", ")].filter(Boolean).join(" · ");
}

function choice(choices, { default: standard, nullable }) {
  const values = choices.filter((value) => value !== null);
  if (nullable || values.length < choices.length) values.push(null);
  const element = el(
    "select",
    {},
    el("option", { value: "" }, standing(standard)),
    ...values.map((value) => el("option", { value: JSON.stringify(value) }, words(value))),
  );
  const read = () => (element.value === "" ? undefined : JSON.parse(element.value));
  const show = (value) => {
    element.value = value === undefined ? "" : JSON.stringify(value);
  };
  return { element, read, show };
}

function number({ type, minimum, maximum, default: standard }) {
  const isWhole = type === "integer";
  const element = el("input", {
    type: "number",
    step: isWhole ? "1" : "any",
    inputmode: isWhole ? "numeric" : "decimal",
    min: minimum ?? null,
    max: maximum ?? null,
  });
  const read = () => {
    if (element.validity.badInput) throw new Error("This takes a number.");
    return element.value === "" ? undefined : element.valueAsNumber;
  };
  return { element, read, show: shown(element, standard, String) };
}

function text({ default: standard }) {
  const element = area("true");
  // Where the default is empty itself, an emptied field is the default.
  const empty = standard === null || standard === "" ? undefined : "";
  return { element, read: () => element.value || empty, show: shown(element, standard, String) };
}

function json({ default: standard }) {
  const element = area("false");
  const read = () => {
    try {
      return element.value === "" ? undefined : JSON.parse(element.value);
    } catch {
      throw new Error("This takes JSON.");
    }
  };
  return { element, read, show: shown(element, standard, JSON.stringify) };
}

function area(spellcheck) {
  return el("textarea", { rows: "1", dir: "auto", spellcheck });
}

/** How a value is shown in a field that is typed into: what is empty says what it stands for. */
function shown(element, standard, written) {
  return (value) => {
    const isEmpty = value === undefined || value === null;
    element.value = isEmpty ? "" : written(value);
    element.placeholder = value === undefined ? standing(standard) : words(value);
  };
}

/** What stands for a default. Where the schema has none, only the server knows it. */
function standing(standard) {
  return standard === undefined ? "default" : `${words(standard)} (default)`;
}

function words(value) {
  if (typeof value === "string") return value || "empty";
  return { null: "none", true: "yes", false: "no" }[value] ?? JSON.stringify(value);
}
