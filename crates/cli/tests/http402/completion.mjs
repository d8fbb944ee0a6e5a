// The npm package `openai`, as anyone uses it: a base URL and a key, a streamed completion.
//
// Settings: baseUrl. Commands: stream { model?, maxTokens?, takeOnly? }, whole { maxTokens? }.

import OpenAI from "openai";
import { answer, settings } from "./lines.mjs";

const client = new OpenAI({ baseURL: settings.baseUrl, apiKey: "none", maxRetries: 0 });
const request = ({ model = "test", maxTokens }) => ({
  model,
  messages: [{ role: "user", content: "Say something." }],
  ...(maxTokens && { max_tokens: maxTokens }),
});

/** The pieces of text that came, and how it ended. `takeOnly`: leaves after so many. */
async function stream({ takeOnly, ...options }) {
  const pieces = [];
  let usage = null;
  try {
    const chunks = await client.chat.completions.create({ ...request(options), stream: true });
    for await (const chunk of chunks) {
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) pieces.push(piece);
      if (chunk.usage) usage = chunk.usage;
      // Leaving the loop aborts the request.
      if (takeOnly && pieces.length >= takeOnly) break;
    }
    return { pieces, usage };
  } catch (error) {
    return { pieces, usage, status: error.status ?? null, error: String(error.message) };
  }
}

async function whole(options) {
  try {
    const completion = await client.chat.completions.create(request(options));
    return { text: completion.choices[0].message.content, usage: completion.usage };
  } catch (error) {
    return { status: error.status ?? null, error: String(error.message) };
  }
}

await answer({ stream, whole });
