// What went wrong, and what can be done about it; and quiet words for those who listen instead of looking.

import { Refused, Unreachable, key } from "./api.js";
import { $, el } from "./dom.js";

let askForKey = () => {};

export function onWrongKey(ask) {
  askForKey = ask;
}

export function clear() {
  $("notice").replaceChildren();
}

// retry: {label, go} to offer, or null.
export function show(error, retry = null) {
  if (error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    askForKey(sentence(error));
    retry = { label: "Enter a key", go: () => askForKey() };
  } else if (!(error instanceof Refused || error instanceof Unreachable)) console.error(error);
  tell(sentence(error), retry, true);
}

export function tell(text, retry = null, bad = false) {
  const again = retry && el("button", { type: "button", onclick: () => (clear(), retry.go()) }, retry.label);
  const close = el("button", { type: "button", "aria-label": "Dismiss", onclick: clear }, "×");
  $("notice").replaceChildren(el("div", { class: bad ? "bad" : "good" }, el("span", {}, text), again, close));
}

// For screen readers only: it is to be seen elsewhere.
export function announce(text) {
  $("status").textContent = text;
}

function sentence(error) {
  if (!(error instanceof Refused)) return error instanceof Unreachable ? error.message : `This page failed: ${error.message}`;
  if (error.status === 401 && !key.get()) return "This server asks for an API key.";
  if (error.code === "session_busy") return "This session is busy: it is running another turn. Wait for it, or follow it.";
  if (error.retryAfter) return `${error.message} (in about ${error.retryAfter} s)`;
  return error.message;
}
