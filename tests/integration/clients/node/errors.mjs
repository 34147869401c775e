// What the client throws for requests that are refused. Reads {say}, prints each error as JSON.
import { json } from "node:stream/consumers";
import OpenAI from "openai";

const { say } = await json(process.stdin);
const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Hello?" }];
const tools = [{ type: "function", function: { name: "look", parameters: {} } }];

const refused = [
  () => client.chat.completions.create({ messages, ...say, model: "gpt-5" }),
  () => client.chat.completions.create({ messages, ...say, tools }),
  () => client.responses.retrieve("resp_0123456789abcdefghij_0123456789ab"),
  () => new OpenAI({ maxRetries: 0, apiKey: "wrong" }).models.list(),
];
const said = [];
for (const ask of refused) {
  const error = await ask().then(() => null, (error) => error);
  said.push({ name: error?.constructor.name, status: error?.status, code: error?.code, param: error?.param });
}
console.log(JSON.stringify(said));
