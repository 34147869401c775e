// Talking to the server: one function for requests, one for streams. Addresses are relative, so that the page works
// wherever a proxy puts it.

const KEY = "perennial.key";
// A look at the memory holds its session for a moment, from whichever tab: what comes then is asked again.
const BUSY_MS = [150, 350, 1000];

// The server answered, and refused.
export class Refused extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = error?.code ?? null;
    this.retryAfter = retryAfter;
  }
}

// Nobody answered, or the answer broke off.
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer. Is it running, and can this computer reach it?");
  }
}

// The key lives in this tab only: a shared computer must not keep it.
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// A Response that is a success. Raises Refused, Unreachable, or AbortError where `signal` was used.
export async function request(method, path, options = {}) {
  for (const ms of BUSY_MS) {
    try {
      return await once(method, path, options);
    } catch (error) {
      if (error.code !== "session_busy") throw error;
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }
  return once(method, path, options);
}

async function once(method, path, { json, body, headers = {}, signal }) {
  const all = { ...headers };
  if (key.get()) all.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: all, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  // A proxy in between answers so for a server that is gone.
  if (said === null && [502, 503, 504].includes(response.status)) throw new Unreachable();
  throw new Refused(response.status, said?.error, Number(response.headers.get("Retry-After")) || null);
}

export async function call(method, path, json) {
  const response = await request(method, path, { json });
  try {
    return await response.json();
  } catch {
    throw new Unreachable();
  }
}

export const session = (id, rest = "") => `v1/sessions/${encodeURIComponent(id)}${rest}`;

// The events of a stream: {id, event, data} each. A browser's EventSource can't send a key, so they are read here.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const event = parsed(frame);
        if (event !== null) yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(frame) {
  const fields = {};
  for (const line of frame.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
  }
  // A comment has no data.
  return fields.data === undefined ? null : { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
}
