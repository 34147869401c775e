// The list on the left, and what can be done with a whole session.

import { call, request, session as at } from "./api.js";
import { $, count, el, many } from "./dom.js";
import { forget, texts } from "./kept.js";
import * as notice from "./notice.js";

const PAGE = 30;

export class Sessions {
  #page;
  #pages = 1;

  constructor(page) {
    this.#page = page;
    const on = (id, go) =>
      $(id).addEventListener("click", async () => {
        try {
          await go();
        } catch (error) {
          notice.show(error);
        }
      });
    on("new", () => page.close());
    on("fork", () => this.fork(null));
    on("rewind", () => this.rewind({ turns: 1 }));
    on("export", () => this.#export());
    on("import", () => $("import-file").click());
    on("delete", () => $("delete-dialog").showModal());
    on("delete-yes", () => this.#delete());
    on("more-sessions", () => {
      this.#pages += 1;
      return this.load();
    });
    $("import-file").addEventListener("change", () => this.#import().catch((error) => notice.show(error)));
  }

  // Raises what a request raises.
  async load() {
    const found = [];
    let after = null;
    let more = true;
    for (let i = 0; i < this.#pages && more; i += 1) {
      const query = after === null ? "" : `&after=${encodeURIComponent(after)}`;
      const page = await call("GET", `v1/sessions?limit=${PAGE}${query}`);
      found.push(...page.data);
      ({ after, has_more: more } = page);
    }
    const focused = document.activeElement?.dataset?.session;
    $("session-list").replaceChildren(...found.map((session) => this.#entry(session)));
    if (focused) $("session-list").querySelector(`[data-session="${CSS.escape(focused)}"]`)?.focus();
    $("more-sessions").hidden = !more;
    if (!found.length) $("session-list").append(el("li", { class: "quiet" }, "None yet."));
  }

  #entry(session) {
    const current = session.id === this.#page.session?.id;
    const state = session.running ? "running" : many(session.turns, "turn");
    const button = el(
      "button",
      {
        type: "button",
        "data-session": session.id,
        "aria-current": current ? "true" : null,
        onclick: () => this.#page.open(session.id, { show: "talk" }),
      },
      el("span", { class: "title" }, title(session.id)),
      el("span", { class: "quiet" }, `${state} · position ${count(session.position)}${session.origin ? " · fork" : ""}`),
    );
    return el("li", {}, button);
  }

  // turn: null forks at the head.
  async fork(turn) {
    const from = this.#page.session.id;
    const made = await call("POST", at(from, "/fork"), turn === null ? {} : { at_turn: turn });
    // A fork shares its turns, and so what was said in them.
    texts.set(made.id, texts.get(from));
    await this.#page.open(made.id, { show: "talk" });
    notice.tell("This is the fork. Where it came from is in the list, unchanged.");
  }

  // to: {turns} or {to_turn}.
  async rewind(to) {
    const { id } = this.#page.session;
    await this.#page.looked();
    await call("POST", at(id, "/rewind"), to);
    notice.clear();
    await this.#page.refresh();
    const kept = new Set(this.#page.turns.map((turn) => turn.id));
    const known = Object.entries(texts.get(id) ?? {});
    const last = known.findLastIndex(([turn]) => kept.has(turn));
    // What was given up must not come back as an older turn's text.
    if (last >= 0) texts.set(id, Object.fromEntries(known.slice(0, last + 1)));
    else if (!this.#page.session.head) texts.set(id, null);
    notice.announce("Rewound");
  }

  async #export() {
    const { id } = this.#page.session;
    const blob = await (await request("GET", at(id, "/export"))).blob();
    const url = URL.createObjectURL(blob);
    el("a", { href: url, download: `${id}.safetensors` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // the download has begun by then
  }

  async #import() {
    const [file] = $("import-file").files;
    $("import-file").value = ""; // the same file may be chosen again
    if (!file) return;
    const headers = { "Content-Type": "application/octet-stream" };
    const made = await (await request("POST", "v1/sessions/import", { body: file, headers })).json();
    await this.#page.open(made.id, { show: "talk" });
    notice.tell("Imported. The file has the state and the tokens, not the texts; the conversation can go on.");
  }

  async #delete() {
    const { id } = this.#page.session;
    $("delete-dialog").close();
    await this.#page.looked();
    await call("DELETE", at(id));
    forget(id);
    await this.#page.close();
    $("new").focus();
  }
}

export function title(id) {
  const [first] = Object.values(texts.get(id) ?? {});
  const said = first?.said?.trim().replace(/\s+/g, " ");
  if (!said) return id.slice(0, 16) + "…";
  return said.length > 60 ? said.slice(0, 59) + "…" : said;
}
