// Leaves a stream after a few chunks and gives up a whole answer, then asks once more.
// Reads {question, many, say}: of an answer of `many` tokens the first chunks are heard. Prints what was heard as JSON.
import { json } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";
import OpenAI from "openai";

const { question, many, say } = await json(process.stdin);
const completions = new OpenAI({ maxRetries: 0 }).chat.completions;
const long = { messages: [{ role: "user", content: question }], ...say, max_tokens: many };

const heard = { text: "" };
const stream = await completions.create({ ...long, stream: true });
let chunks = 0;
for await (const chunk of stream) {
  heard.generation ??= chunk.perennial?.generation;
  heard.text += chunk.choices[0].delta.content ?? "";
  if (++chunks === 4) stream.controller.abort();
}
heard.chunks = chunks;

async function accepted() {
  const metrics = await (await fetch(new URL("/metrics", process.env.OPENAI_BASE_URL))).text();
  return Number(metrics.match(/^perennial_generations_accepted_total (\S+)$/m)[1]);
}

const before = await accepted();
const leaving = new AbortController();
const waiting = completions.create(long, { signal: leaving.signal }).then(
  () => null,
  (error) => error.constructor.name,
);
while ((await accepted()) === before) await setTimeout(5);
leaving.abort();
heard.error = await waiting;

const after = await completions.create({ messages: [{ role: "user", content: "Still there?" }], ...say });
console.log(JSON.stringify({ ...heard, after: after.choices[0].message.content }));
