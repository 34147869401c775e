// The conversation in the middle: showing it, asking, stopping, going on after a reload.

import { Refused, Unreachable, call, session as at } from "./api.js";
import { $, arrange, count, many } from "./dom.js";
import { follow } from "./follow.js";
import { draft, keepText, pending, texts } from "./kept.js";
import * as notice from "./notice.js";
import * as sampling from "./sampling.js";
import { TurnView, mark } from "./turns.js";

const SAVE_EVERY_MS = 250;

export class Talk {
  #page;
  #views = new Map(); // by turn
  #live = null; // {id, turn, view, controller, stopping, broken, saved}

  constructor(page) {
    this.#page = page;
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send($("say").value);
    });
    $("say").addEventListener("keydown", (event) => {
      // An unfinished composition (Japanese, Chinese, …) ends with Enter too.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $("composer").requestSubmit();
    });
    $("say").addEventListener("input", () => draft.set(this.#page.session?.id ?? "new", $("say").value || null));
    $("stop").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#live && !document.querySelector("dialog[open]")) this.stop();
    });
    window.addEventListener("pagehide", () => this.#save());
  }

  // Another session, or none (null), is looked at from now on. What runs goes on without being watched.
  leave(id) {
    this.#save();
    this.#live?.controller.abort();
    this.#set(null);
    this.#views.clear();
    $("log").replaceChildren();
    $("say").value = draft.get(id ?? "new") ?? "";
  }

  // The session and its kept turns, oldest first, as the server has them. Goes on with a turn that is pending.
  show(session, turns) {
    this.#draw(session, turns);
    if (this.#live) return;
    const turn = pending.get(session.id);
    if (turn !== null) this.#run(session.id, turn);
    else if (session.running) {
      this.#run(session.id, { body: null, key: null, said: null, generation: session.running, after: null, text: "" });
    }
  }

  #draw(session, turns) {
    const log = $("log");
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const known = texts.get(session.id) ?? {};
    const start = session.window_start ?? 0;
    const nodes = [];
    const gone = session.turns - session.turns_kept;
    if (gone > 0) {
      for (const [id, text] of older(known, turns)) nodes.push(this.#view(id, text).node);
      nodes.push(mark(`${many(gone, "earlier turn")} can't be gone back to any more.`));
    }
    const edge = start > 0 ? turns.findIndex((turn) => turn.length > start) : -1;
    turns.forEach((turn, i) => {
      if (i === edge) nodes.push(mark(windowBegins(start, turn)));
      const view = this.#view(turn.id, known[turn.id] ?? null);
      const head = turn.id === session.head;
      const said = turn.operation ? null : known[turn.id]?.said;
      const regenerate = head && said ? () => this.regenerate(said, known[turn.id].system) : null;
      view.settle(turn, { head, left: turn.length <= start, doing: { ...this.#page.doing, regenerate } });
      nodes.push(view.node);
    });
    if (this.#live?.id === session.id) nodes.push(this.#live.view.node);
    if (!nodes.length) nodes.push(mark("Nothing has been said yet."));
    arrange(log, nodes);
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  #view(id, text) {
    if (!this.#views.has(id)) this.#views.set(id, new TurnView(text));
    return this.#views.get(id);
  }

  async send(said) {
    if (!said.trim() || this.#live) return;
    const asked = sampling.read();
    if (asked === null) return;
    $("send").disabled = true; // until it is known whether there is a session
    try {
      if (!this.#page.session) await this.#page.open((await call("POST", "v1/sessions")).id, { quietly: true });
      if (!this.#page.session) {
        $("say").value = said; // opening it failed, which has been told
        return;
      }
      const { id, head } = this.#page.session;
      const system = head === null && asked.as === "messages" ? asked.system : "";
      this.#ask(id, head, said, system, asked);
    } catch (error) {
      notice.show(error);
    } finally {
      $("send").disabled = false;
    }
  }

  // The last answer once more: its turn is given up first.
  async regenerate(said, system) {
    const asked = sampling.read();
    if (asked === null || this.#live) return;
    const { id } = this.#page.session;
    draft.set(id, said); // should the page be closed right now, it is not lost
    try {
      await this.#page.looked();
      const session = await call("POST", at(id, "/rewind"), { turns: 1 });
      this.#page.session = session;
      await this.#page.refresh({ look: false });
      this.#ask(id, session.head, said, system, asked);
    } catch (error) {
      notice.show(error);
    }
  }

  #ask(id, head, said, system, { sampling, as }) {
    const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: said }];
    const body = {
      session_id: id,
      ...(as === "prompt" ? { prompt: said } : { messages }),
      // Never an answer to a conversation that another tab has moved on.
      ...(head === null ? {} : { if_turn: head }),
      ...sampling,
      on_disconnect: "continue",
    };
    const turn = { body, key: name(), said, system, generation: null, after: null, text: "" };
    pending.set(id, turn);
    draft.set(id, null);
    draft.set("new", null);
    $("say").value = "";
    notice.clear();
    this.#run(id, turn);
  }

  async #run(id, turn) {
    const view = new TurnView({ said: turn.said, system: turn.system, answer: turn.text });
    const live = { id, turn, view, controller: new AbortController(), stopping: false, broken: false, saved: 0 };
    this.#set(live);
    $("log").querySelector(":scope > .mark:only-child")?.remove();
    $("log").append(view.node);
    $("log").scrollTop = $("log").scrollHeight;
    view.note("Waiting…");
    notice.announce("Answering");
    try {
      if (turn.generation === null) await this.#page.looked();
      const end = await follow(turn, {
        signal: live.controller.signal,
        onChange: () => this.#changed(live),
        onWait: () => view.note("The server does not answer. Trying again…"),
      });
      await this.#ended(live, end);
    } catch (error) {
      if (error.name !== "AbortError") this.#failed(live, error);
    }
  }

  #changed(live) {
    if (live.stopping && live.turn.generation) this.#cancel(live);
    if (live.frame) return;
    // Once a frame is enough; many tokens may come between two of them.
    live.frame = requestAnimationFrame(() => {
      live.frame = null;
      if (this.#live !== live) return;
      const log = $("log");
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      live.view.grow(live.turn.text);
      live.view.note(live.stopping ? "Stopping…" : live.turn.text ? "Answering…" : "Waiting…");
      if (atEnd) log.scrollTop = log.scrollHeight;
      if (Date.now() - live.saved > SAVE_EVERY_MS) this.#save();
    });
  }

  // Text and last event together, so that a reload goes on exactly behind what it shows.
  #save() {
    const live = this.#live;
    if (!live?.turn.body) return;
    live.saved = Date.now();
    pending.set(live.id, live.turn);
  }

  async #ended(live, end) {
    const { id, turn, view } = live;
    view.grow(turn.text);
    if (end.turn && (turn.said !== null || turn.text)) {
      keepText(id, end.turn, { said: turn.said, system: turn.system, answer: turn.text });
      if (this.#live === live) this.#views.set(end.turn, view);
    }
    pending.set(id, null);
    if (this.#live !== live) return;
    this.#set(null);
    if (!end.turn) this.#giveBack(turn);
    notice.announce(turn.text ? `Answer: ${turn.text}` : "The answer is empty.");
    await this.#page.refresh();
  }

  #failed(live, error) {
    if (this.#live !== live) return;
    const { id, turn, view } = live;
    if (error instanceof Unreachable || error.status === 401) {
      live.broken = true;
      view.note("Interrupted.");
      notice.show(error, { label: "Try again", go: () => this.#page.open(id) });
      return;
    }
    pending.set(id, null);
    this.#set(null);
    view.node.remove();
    if (error.code !== "generation_not_found") this.#giveBack(turn);
    const busy = error instanceof Refused && error.code === "session_busy";
    notice.show(error, busy ? { label: "Follow it", go: () => this.#page.open(id) } : null);
    if (!busy) this.#page.refresh({ look: false });
  }

  // What was not said after all can be mended and said again.
  #giveBack(turn) {
    if (!turn.said || $("say").value) return;
    $("say").value = turn.said;
    draft.set(this.#page.session?.id ?? "new", turn.said);
  }

  stop() {
    const live = this.#live;
    if (live === null) return;
    if (live.broken) {
      pending.set(live.id, null);
      this.#set(null);
      live.view.node.remove();
      this.#giveBack(live.turn);
      return;
    }
    live.stopping = true;
    this.#changed(live);
  }

  #cancel(live) {
    if (live.cancelled) return;
    live.cancelled = true;
    call("DELETE", `v1/generations/${encodeURIComponent(live.turn.generation)}`).catch((error) => {
      live.stopping = live.cancelled = false;
      notice.show(error);
    });
  }

  #set(live) {
    const focused = document.activeElement === $("stop") || document.activeElement === $("send");
    this.#live = live;
    $("send").hidden = live !== null;
    $("stop").hidden = live === null;
    if (focused) (live ? $("stop") : $("say")).focus();
    $("log").setAttribute("aria-busy", String(live !== null));
    $("memory-actions").disabled = live !== null || !this.#page.session?.head;
  }
}

function windowBegins(start, turn) {
  const where = turn.length - turn.tokens < start ? `in the turn below, at position ${count(start)}` : "here";
  return `The window begins ${where}. What lies before it is no longer read exactly.`;
}

// Texts of turns that the server keeps no more: those that were kept here before the first that it still has.
function older(known, turns) {
  const all = Object.entries(known);
  const first = all.findIndex(([id]) => turns.some((turn) => turn.id === id));
  return first < 0 ? [] : all.slice(0, first);
}

// Not crypto.randomUUID, which plain http from another computer doesn't have.
function name() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
