// One turn, from asking to its end, across everything that can come in between: a connection that breaks, a page that
// is loaded again, a server that restarts.
//
// A pending turn: {body, key, said, system, generation, after, text}. It is kept before it is asked for. Until the
// server has named the generation, asking again with the same Idempotency-Key finds the same turn; afterwards the events
// go on after the last one that was seen.

import { Refused, Unreachable, call, events, request } from "./api.js";

const PAUSES_MS = [250, 500, 1000, 2000, 4000];

// Ends with {finish_reason, turn, …}, `turn.text` then being whole. onChange: after each event. onWait: the connection
// is gone, it will be tried again. Raises Refused, Unreachable (it was tried often enough), AbortError.
export async function follow(turn, { signal, onChange, onWait }) {
  let tries = 0;
  for (;;) {
    try {
      const response = await ask(turn, signal);
      turn.generation ??= response.headers.get("X-Generation-Id");
      onChange();
      // 204: it ended, and all of it was seen.
      if (response.status === 204) return await whole(turn);
      for await (const event of events(response)) {
        tries = 0;
        const end = take(turn, event);
        onChange();
        if (end !== null) return end;
      }
      throw new Unreachable(); // a stream that ends without saying so was cut
    } catch (error) {
      const worth = error instanceof Unreachable || (error instanceof Refused && error.code === "store_unavailable");
      if (!worth || tries >= PAUSES_MS.length) throw error;
      onWait();
      await pause(PAUSES_MS[tries], signal);
      tries += 1;
    }
  }
}

function ask(turn, signal) {
  if (turn.generation === null) {
    return request("POST", "v1/generate", { json: turn.body, headers: { "Idempotency-Key": turn.key }, signal });
  }
  const after = turn.after === null ? "" : `?after=${encodeURIComponent(turn.after)}`;
  return request("GET", `v1/generations/${encodeURIComponent(turn.generation)}/events${after}`, { signal });
}

function take(turn, { id, event, data }) {
  if (event === "error") throw new Refused(data.error.status ?? 500, data.error, null);
  if (event === "token") turn.text += data.text;
  if (event === "start") turn.start = data;
  turn.after = id;
  return event === "done" ? data : null;
}

async function whole(turn) {
  const said = await call("GET", `v1/generations/${encodeURIComponent(turn.generation)}`);
  if (said.error) throw new Refused(500, said.error, null);
  turn.text = said.text;
  return said;
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    });
  });
}
