// A conversation through /v1/responses: each continues the one before by its id; every other one is streamed.
// Reads {questions, say}, prints the responses as JSON, the last one a second time as it is retrieved.
import { json } from "node:stream/consumers";
import OpenAI from "openai";

const { questions, say } = await json(process.stdin);
const responses = new OpenAI({ maxRetries: 0 }).responses;

async function whole(request) {
  return responses.create(request);
}

async function streamed(request) {
  let text = "";
  const stream = responses.stream(request).on("response.output_text.delta", (event) => (text += event.delta));
  const response = await stream.finalResponse();
  if (response.output_text !== text) throw new Error("the deltas are not the text");
  return response;
}

const made = [];
for (const [turn, input] of questions.entries()) {
  made.push(await [whole, streamed][turn % 2]({ input, previous_response_id: made.at(-1)?.id, ...say }));
}
console.log(JSON.stringify([...made, await responses.retrieve(made.at(-1).id)]));
