// The npm package `openai`, as anyone uses it: a base URL and a key, a streamed completion.
//
// Settings: baseUrl; and rpc, chainId, key, where it pays by itself, by `@x402/fetch` in the place of fetch.
// Commands: stream { model?, maxTokens?, takeOnly?, release? }, whole { maxTokens? }, respond { model?, maxTokens?, release? } (the newer API,
// streamed). release { at, url }: once so many pieces came, the address is asked, which lets the upstream go on.

import OpenAI from "openai";
import { answer, settings } from "./lines.mjs";

const paying = settings.key && (await import("./paying.mjs")).paying;
const client = new OpenAI({ baseURL: settings.baseUrl, apiKey: "none", maxRetries: 0, ...(paying && { fetch: paying() }) });
const request = ({ model = "test", maxTokens }) => ({
  model,
  messages: [{ role: "user", content: "Say something." }],
  ...(maxTokens && { max_tokens: maxTokens }),
});

/** The pieces of text that came, and how it ended. `takeOnly`: leaves after so many. */
async function stream({ takeOnly, release, ...options }) {
  const pieces = [];
  let usage = null;
  try {
    const chunks = await client.chat.completions.create({ ...request(options), stream: true });
    for await (const chunk of chunks) {
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) pieces.push(piece);
      if (piece && pieces.length === release?.at) await fetch(release.url);
      if (chunk.usage) usage = chunk.usage;
      // Leaving the loop aborts the request.
      if (takeOnly && pieces.length >= takeOnly) break;
    }
    return { pieces, usage };
  } catch (error) {
    return { pieces, usage, status: error.status ?? null, error: String(error.message) };
  }
}

async function respond({ model = "test", maxTokens, release }) {
  const [pieces, types] = [[], []];
  try {
    const events = await client.responses.create({ model, input: "Say something.", max_output_tokens: maxTokens, stream: true });
    for await (const event of events) {
      types.push(event.type ?? null);
      if (event.type !== "response.output_text.delta") continue;
      pieces.push(event.delta);
      if (pieces.length === release?.at) await fetch(release.url);
    }
    return { pieces, types };
  } catch (error) {
    return { pieces, types, status: error.status ?? null, error: String(error.message) };
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

await answer({ stream, whole, respond });
