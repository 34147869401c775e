// The form of sampling settings: what a request takes from it. An empty field is left to the server.

import { $ } from "./dom.js";
import { preference } from "./kept.js";

const NUMBERS = [
  ...["max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"],
  ...["frequency_penalty", "seed"],
];

export function begin() {
  const form = $("sampling");
  const kept = preference.get("sampling", {});
  for (const field of form.elements) {
    if (!(field.name in kept)) continue;
    if (field.type === "checkbox") field.checked = kept[field.name];
    else field.value = kept[field.name];
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    const values = {};
    for (const field of form.elements) values[field.name] = field.type === "checkbox" ? field.checked : field.value;
    preference.set("sampling", values);
  });
}

// {sampling, as, system}, or null where the form has a fault, which the browser then shows.
export function read() {
  const form = $("sampling");
  if (!form.checkValidity()) {
    $("settings").open = true; // a closed one can't show its fault
    form.reportValidity();
    return null;
  }
  const fields = form.elements;
  const sampling = {};
  for (const name of NUMBERS) if (fields[name].value !== "") sampling[name] = Number(fields[name].value);
  const stop = fields.stop.value.split("\n").filter((line) => line !== "");
  if (stop.length) sampling.stop = stop;
  if (fields.ignore_eos.checked) sampling.ignore_eos = true;
  return { sampling, as: fields.as.value, system: fields.system.value };
}
