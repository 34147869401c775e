// What this browser keeps. The server keeps tokens, not text; so the texts of a conversation are kept here, by session
// and turn. Where the browser refuses (full, or forbidden), the page works on without.

const FIRST = "perennial.";

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(FIRST + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(FIRST + name);
    else localStorage.setItem(FIRST + name, JSON.stringify(value));
  } catch {
    // Full or forbidden: what is shown stays right, a reload shows less.
  }
}

function slot(kind, otherwise) {
  return {
    get: (id) => read(`${kind}.${id}`, otherwise),
    set: (id, value) => write(`${kind}.${id}`, value),
  };
}

// {turn: {said, system, answer, finish}}
export const texts = slot("texts", {});
// A turn that was asked for and has not ended, as far as this browser knows: see follow.js.
export const pending = slot("pending", null);
export const draft = slot("draft", null);

export function keepText(id, turn, text) {
  texts.set(id, { ...texts.get(id), [turn]: text });
}

export function forget(id) {
  for (const kind of [texts, pending, draft]) kind.set(id, null);
}

export const preference = {
  get: (name, otherwise) => read(`preference.${name}`, otherwise),
  set: (name, value) => write(`preference.${name}`, value),
};
