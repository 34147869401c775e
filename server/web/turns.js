// How one turn looks: what was said, what was answered, and what can be done with it.

import { count, el, many } from "./dom.js";

const OPERATIONS = {
  reset: "The memory was reset.",
  "svd-clean": "The memory was cleaned.",
  freeze: "The memory was frozen: read, but not written.",
  unfreeze: "The memory was unfrozen: written again.",
};
const FINISHES = { length: "cut off at its longest", cancelled: "stopped" };
const ELSEWHERE = "This turn was said elsewhere: the server keeps tokens, not text.";

export class TurnView {
  // text: {said, system, answer} or null where this browser doesn't know it.
  constructor(text) {
    this.answer = document.createTextNode(text?.answer ?? "");
    this.foot = el("footer");
    this.node = el("article", { class: "turn" }, ...this.#body(text), this.foot);
  }

  #body(text) {
    if (text === null) return [];
    return [
      text.system ? part("system", "System", text.system) : null,
      text.said === null ? el("p", { class: "unknown" }, "Asked elsewhere.") : part("said", "You", text.said),
      part("answer", "Answer", this.answer),
    ];
  }

  // What has come, if it is more than what is shown; appending leaves a reader's selection alone.
  grow(text) {
    if (text.startsWith(this.answer.data)) this.answer.appendData(text.slice(this.answer.data.length));
    else this.answer.data = text;
  }

  // The turn is committed. left: it lies before the window. doing: {fork, rewind, regenerate}, the last null where there
  // is nothing to ask again.
  settle(turn, { head, left, doing }) {
    this.node.dataset.turn = turn.id;
    this.node.classList.toggle("left", left);
    if (this.node.firstElementChild === this.foot) {
      const sentence = turn.operation ? (OPERATIONS[turn.operation] ?? turn.operation) : ELSEWHERE;
      this.node.prepend(el("p", { class: turn.operation ? "operation" : "unknown" }, sentence));
    }
    const finish = FINISHES[turn.finish] ? ` · ${FINISHES[turn.finish]}` : "";
    const size = turn.operation ? "" : `${many(turn.tokens, "token")}${finish} · `;
    const key = `${head} ${Boolean(doing.regenerate)}`;
    if (this.foot.dataset.key === key) return; // its buttons may have the focus
    this.foot.dataset.key = key;
    const actions = [
      action("Regenerate", "Answer the last message again", head && doing.regenerate),
      action("Fork here", "A new session that goes on from this turn", () => doing.fork(turn.id)),
      action("Rewind to here", "Give up all that follows this turn", !head && (() => doing.rewind(turn.id))),
    ];
    const where = el("span", {}, `${size}to position ${count(turn.length)}`);
    this.foot.replaceChildren(where, ...actions.filter((one) => one !== null));
  }

  // It runs, or is held up: said below it.
  note(sentence) {
    delete this.foot.dataset.key;
    this.foot.replaceChildren(el("span", {}, sentence));
  }
}

// A line between turns.
export function mark(sentence) {
  return el("p", { class: "mark" }, sentence);
}

function part(kind, who, text) {
  return el("div", { class: kind }, el("span", { class: "unseen" }, `${who}: `), text);
}

function action(label, title, go) {
  return go ? el("button", { type: "button", title, onclick: go }, label) : null;
}
