// The panel on the right: what the session remembers, drawn after each turn, and what can be done to it. Every change is
// a turn of the session, so undoing one is a rewind to the turn before it.

import { Refused, call, session as at } from "./api.js";
import { $, bytes, count, el } from "./dom.js";
import * as draw from "./draw.js";
import * as notice from "./notice.js";

const TIERS = {
  new: "nowhere yet",
  slot: "in a worker's slot",
  ram: "in a worker's memory",
  redis: "in the store",
};

const DONE = { reset: "Emptied", "svd-clean": "Cleaned", freeze: "Frozen", unfreeze: "Written again" };

export class Memory {
  #page;
  #of = null; // the session that is drawn
  #drawn = []; // its matrices
  #looks = 0;
  #frozen = false;

  constructor(page) {
    this.#page = page;
    $("reset").addEventListener("click", () => this.#change("reset", { scope: $("scope").value }));
    $("freeze").addEventListener("click", () => this.#change(this.#frozen ? "unfreeze" : "freeze", {}));
    $("undo").addEventListener("click", () => this.#undo());
    $("clean").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#tryClean();
    });
    $("clean").addEventListener("input", () => this.#forgetTrial()); // it was for other figures
  }

  // session: null where there is none.
  facts(session, turns) {
    const last = turns.at(-1);
    $("undo").hidden = !last?.operation;
    $("memory-actions").disabled = !session?.head || $("log").getAttribute("aria-busy") === "true";
    if (session?.id !== this.#of) {
      this.#of = session?.id ?? null;
      this.#drawn = [];
      this.#forgetTrial();
    }
    if (!session?.head) {
      this.#looks += 1; // an answer that is on its way is of something else
      $("drawings").replaceChildren();
      $("memory-note").textContent = "Nothing is remembered yet.";
    }
    $("facts").replaceChildren(...(session ? this.#rows(session) : []));
  }

  #rows(session) {
    const start = session.window_start;
    const rows = {
      Position: count(session.position),
      State: `${bytes(session.state_bytes)}, at every length`,
      Lives: TIERS[session.tier] ?? session.tier,
      Stored: bytes(session.stored_bytes),
      Turns: `${count(session.turns)}, of which ${count(session.turns_kept)} can be gone back to`,
      Window: start === null ? "no worker serves this model now" : `exact from position ${count(start)}`,
    };
    const list = Object.entries(rows).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
    if (start > 0) list.push(el("dd", { class: "warn" }, "The beginning has left the window."));
    return list;
  }

  // Asks a worker, and draws what it says. An answer that comes too late for what is shown by then is dropped.
  async look() {
    const session = this.#page.session;
    if (!session?.head) return;
    this.#looks += 1;
    const mine = this.#looks;
    try {
      const memory = await call("GET", at(session.id, "/memory"));
      if (mine === this.#looks) this.#draw(memory);
    } catch (error) {
      if (mine !== this.#looks) return;
      $("memory-note").textContent = `It can't be looked at now: ${error.message}`;
    }
  }

  #draw(memory) {
    this.#frozen = memory.frozen;
    $("freeze").textContent = memory.frozen ? "Unfreeze" : "Freeze";
    const { matrices } = memory;
    if (!matrices.length) {
      $("memory-note").textContent = "This model remembers nothing beyond its window.";
      $("drawings").replaceChildren();
      return;
    }
    const state = memory.frozen ? "Frozen: it is read, but not written." : "It is read and written.";
    $("memory-note").textContent = `${state} As of position ${count(memory.position)}.`;
    const layers = draw.byLayer(matrices);
    const before = draw.byLayer(this.#drawn);
    const spectra = [...layers].map(([layer, of]) => draw.spectrum(layer, of, before.get(layer) ?? []));
    const gates = draw.gates(layers);
    const columns = {
      matrix,
      norm: (m) => draw.figure(m.norm),
      rank: (m) => m.rank,
      "eff. rank": (m) => draw.figure(m.effective_rank),
      writes: (m) => count(m.writes),
    };
    const open = $("drawings").querySelector("details")?.open ?? false;
    $("drawings").replaceChildren(
      el("h3", {}, "Norm by layer; line: before"),
      draw.norms(layers, before),
      el("h3", {}, "Singular values, logarithmic; dotted: before"),
      el("div", { class: "spectra" }, ...spectra),
      ...(gates ? [el("h3", {}, "Read gates"), gates] : []),
      el("details", { open }, el("summary", {}, "As figures"), draw.table("Memory matrices, by layer and head", columns, matrices)),
    );
    this.#drawn = matrices;
  }

  async #ask(kind, body) {
    await this.#page.looked();
    const { id, head } = this.#page.session;
    return call("POST", at(id, `/memory/${kind}`), { ...body, if_turn: head });
  }

  async #change(kind, body) {
    const focused = document.activeElement; // what is disabled loses it
    $("memory-actions").disabled = true;
    try {
      const done = await this.#ask(kind, body);
      this.#forgetTrial();
      const moved = done.shift ? `: ${shift(done.shift)}` : ".";
      notice.tell(`${DONE[kind]}${moved} It is a turn of the session: Undo takes it back.`);
    } catch (error) {
      this.#failed(error);
    }
    await this.#page.refresh();
    (focused.isConnected ? focused : $("try-clean")).focus();
  }

  async #undo() {
    const last = this.#page.turns.at(-1);
    if (last?.operation) await this.#page.doing.rewind(last.parent);
    notice.announce("Undone");
    ($("undo").hidden ? $("reset") : $("undo")).focus();
  }

  #cut() {
    const fields = $("clean").elements;
    const cut = { energy_threshold: Number(fields.energy_threshold.value) };
    for (const name of ["max_rank", "drop_top"]) if (fields[name].value !== "") cut[name] = Number(fields[name].value);
    return cut;
  }

  async #tryClean() {
    const cut = this.#cut();
    const { id } = this.#page.session;
    try {
      const dry = await this.#ask("svd-clean", { ...cut, dry_run: true });
      if (this.#page.session?.id === id) this.#showTrial(cut, dry);
    } catch (error) {
      this.#failed(error);
    }
  }

  #showTrial(cut, dry) {
    const columns = {
      matrix,
      rank: (m) => `${m.rank} → ${m.retained_rank}`,
      energy: (m) => `${(100 * m.energy_retained).toFixed(1)} %`,
      norm: (m) => `${draw.figure(m.norm)} → ${draw.figure(m.norm_after)}`,
    };
    const region = $("clean-result");
    region.hidden = false;
    region.replaceChildren(
      el("p", {}, "Nothing has been changed. With this cut, ", dry.shift ? shift(dry.shift) : ""),
      draw.table("What cleaning would leave of each matrix, by layer and head", columns, dry.matrices),
      el(
        "div",
        { class: "row" },
        el("button", { type: "button", class: "main", onclick: () => this.#change("svd-clean", cut) }, "Clean"),
        el("button", { type: "button", onclick: () => (this.#forgetTrial(), $("try-clean").focus()) }, "Leave it"),
      ),
    );
    region.focus();
  }

  #forgetTrial() {
    $("clean-result").hidden = true;
    $("clean-result").replaceChildren();
  }

  #failed(error) {
    const stale = error instanceof Refused && ["turn_mismatch", "session_busy"].includes(error.code);
    notice.show(error, stale ? { label: "Look again", go: () => this.#page.open(this.#page.session.id) } : null);
  }
}

// Its column: layer and head, and which memory where a layer has several.
const matrix = (m) => `${m.layer} · ${m.head}${m.memory ? ` (${m.memory})` : ""}`;

function shift({ kl, same_top: same }) {
  return `the next token's distribution moves by ${draw.figure(kl)} nats (KL), and the likeliest token ${same ? "stays" : "changes"}.`;
}
