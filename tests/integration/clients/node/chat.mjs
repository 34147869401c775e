// A stateless client: the whole history with every request. Whole answers, raw streams and the stream helper take turns.
// Reads {questions, say}, prints the answers as JSON. OPENAI_BASE_URL and OPENAI_API_KEY say whom to ask.
import { json } from "node:stream/consumers";
import OpenAI from "openai";

const { questions, say } = await json(process.stdin);
const completions = new OpenAI({ maxRetries: 0 }).chat.completions;
const usageToo = { stream_options: { include_usage: true } };

async function whole(messages) {
  const { choices, usage, perennial } = await completions.create({ messages, ...say });
  return { text: choices[0].message.content, finish: choices[0].finish_reason, usage, perennial };
}

async function raw(messages) {
  const answer = { text: "" };
  for await (const chunk of await completions.create({ messages, ...say, stream: true, ...usageToo })) {
    answer.text += chunk.choices[0]?.delta.content ?? "";
    answer.finish = chunk.choices[0]?.finish_reason ?? answer.finish;
    answer.perennial = chunk.perennial ?? answer.perennial;
    answer.usage = chunk.usage ?? answer.usage;
  }
  return answer;
}

async function helped(messages) {
  let text = "";
  const stream = completions.stream({ messages, ...say, ...usageToo }).on("content", (delta) => (text += delta));
  const { choices, usage, perennial } = await stream.finalChatCompletion();
  if (choices[0].message.content !== text) throw new Error("the deltas are not the message");
  return { text, finish: choices[0].finish_reason, usage, perennial };
}

const messages = [];
const answers = [];
for (const [turn, content] of questions.entries()) {
  messages.push({ role: "user", content });
  answers.push(await [whole, raw, helped][turn % 3](messages));
  messages.push({ role: "assistant", content: answers.at(-1).text });
}
console.log(JSON.stringify(answers));
