// The page: which session is looked at, and everything around the three parts. The address's fragment names the session,
// so a reload, a bookmark and the browser's back button find it.

import { Refused, call, key, session as at } from "./api.js";
import { $ } from "./dom.js";
import { forget, preference } from "./kept.js";
import { Memory } from "./memory.js";
import * as notice from "./notice.js";
import * as sampling from "./sampling.js";
import { Sessions, title } from "./sessions.js";
import { Talk } from "./talk.js";

const TURNS = 1000; // as many as one page of the server has
const THEMES = ["auto", "light", "dark"];

let looking = Promise.resolve();

const page = {
  session: null, // as the server last described it
  turns: [], // those it keeps, oldest first
  // What the buttons of a turn do.
  doing: {
    fork: (turn) => sessions.fork(turn).catch((error) => notice.show(error)),
    rewind: (turn) => sessions.rewind({ to_turn: turn }).catch((error) => notice.show(error)),
  },

  // quietly: it was made a moment ago, so there is nothing to draw and nothing to load again.
  async open(id, { show = null, quietly = false } = {}) {
    talk.leave(id);
    page.session = null;
    if (fragment() !== id) history.pushState(null, "", `#${encodeURIComponent(id)}`);
    if (show) pane(show);
    if (!quietly) notice.clear();
    try {
      page.session = await call("GET", at(id));
    } catch (error) {
      page.turns = [];
      describe();
      const gone = error instanceof Refused && [404, 410].includes(error.status);
      if (gone) forget(id);
      const again = () => page.open(id);
      notice.show(error, gone ? null : { label: "Try again", go: again });
      return;
    }
    await page.refresh({ look: !quietly, known: true });
  },

  // A look at the memory holds the session: once it has ended, something else can be done to it.
  looked: () => looking,

  // No session: the next message begins one.
  async close() {
    talk.leave(null);
    page.session = null;
    page.turns = [];
    if (fragment()) history.pushState(null, "", location.pathname + location.search);
    notice.clear();
    pane("talk");
    describe();
    $("say").focus();
    await sessions.load();
  },

  // What the server says now. look: at the memory too. known: the session was asked for a moment ago.
  async refresh({ look = true, known = false } = {}) {
    const id = page.session?.id;
    try {
      if (id) {
        const session = known ? page.session : await call("GET", at(id));
        const turns = session.head ? await call("GET", at(id, `/turns?limit=${TURNS}`)) : { data: [] };
        if (page.session?.id !== id) return; // another was opened meanwhile
        page.session = session;
        page.turns = turns.data.reverse();
        describe();
        talk.show(session, page.turns);
        if (look) looking = memory.look(); // not waited for: it is a worker's to do
      }
      await sessions.load();
    } catch (error) {
      notice.show(error, { label: "Try again", go: () => page.refresh({ look }) });
    }
  },
};

const talk = new Talk(page);
const sessions = new Sessions(page);
const memory = new Memory(page);

// Everything that only depends on which session it is.
function describe() {
  const { session } = page;
  const name = session ? title(session.id) : "New conversation";
  $("talk-title").textContent = name;
  document.title = session ? `${name} · Perennial` : "Perennial";
  for (const id of ["fork", "export", "delete"]) $(id).disabled = session === null;
  $("rewind").disabled = !session?.head;
  memory.facts(session, page.turns);
}

function fragment() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // no id of ours is written so
  }
}

function pane(name) {
  document.body.dataset.pane = name;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === name));
  }
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
}

function askForKey(why = "It stays in this tab and is forgotten with it.") {
  $("key-why").textContent = why;
  $("key").value = key.get();
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

async function come() {
  const id = fragment();
  if (id) await page.open(id);
  else await page.close().catch((error) => notice.show(error, { label: "Try again", go: come }));
}

function begin() {
  theme(preference.get("theme", "auto"));
  pane("talk");
  sampling.begin();
  notice.onWrongKey(askForKey);
  $("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    preference.set("theme", next);
    theme(next);
  });
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => pane(button.dataset.show));
  }
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  $("key-button").addEventListener("click", () => askForKey());
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set($("key").value.trim());
    $("key-dialog").close();
    come();
  });
  window.addEventListener("popstate", come);
  // It needs no key, so it says whether anybody is there at all.
  call("GET", "version").then(
    (about) => ($("model").textContent = `${about.model.split("/").at(-1)} · ${about.version}`),
    () => {},
  );
  come();
}

begin();
