// The payer that x402 publishes, unmodified, as a program: one command a line on standard input, one answer a line on standard output.
//
// node payer.mjs KEY RPC_URL
//   {"op": "pay", "url": …, "count": N, "body": …}   pays N times, one after the other; the answers' statuses and bodies, and what the last was charged
//   {"op": "burst", "url": …, "count": N}            N at once on one channel
//   {"op": "forget"}                                 forgets all channels, as a client that starts cold
//   {"op": "refund", "url": …, "amount": …}          asks for a refund, of all without an amount
//   {"op": "channel", "url": …}                      the id of the channel that it pays there with

import readline from "node:readline";
import { x402Client, x402HTTPClient, wrapFetchWithPayment } from "@x402/fetch";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader } from "@x402/core/http";
import { toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme, computeChannelId } from "@x402/evm/batch-settlement/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const [key, rpc] = process.argv.slice(2);
const chain = createPublicClient({ transport: http(rpc) });
const network = `eip155:${await chain.getChainId()}`;
const signer = toClientEvmSigner(privateKeyToAccount(key), chain);

let scheme;
let paid;

function start() {
  scheme = new BatchSettlementEvmScheme(signer, { rpcUrl: rpc });
  const client = new x402Client().register(network, scheme);
  client.setSpendControls({ allowedAssets: true });
  paid = wrapFetchWithPayment(fetch, new x402HTTPClient(client));
}

async function one(url, body) {
  const init = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await paid(url, init);
  const header = response.headers.get("PAYMENT-RESPONSE");
  const required = response.headers.get("PAYMENT-REQUIRED");
  return {
    status: response.status,
    body: await response.text(),
    settle: header ? decodePaymentResponseHeader(header) : null,
    error: required ? decodePaymentRequiredHeader(required).error : null,
  };
}

const operations = {
  async pay({ url, count, body }) {
    const answers = [];
    for (let number = 0; number < count; number++) answers.push(await one(url, body));
    return { statuses: answers.map((answer) => answer.status), last: answers.at(-1) };
  },
  async burst({ url, count }) {
    const answers = await Promise.all(Array.from({ length: count }, () => one(url)));
    return { statuses: answers.map((answer) => answer.status), errors: answers.map((answer) => answer.error) };
  },
  async forget() {
    start();
    return {};
  },
  async refund({ url, amount }) {
    return { settle: await scheme.refund(url, amount === undefined ? {} : { amount }) };
  },
  async channel({ url }) {
    const unpaid = await fetch(url);
    const required = decodePaymentRequiredHeader(unpaid.headers.get("PAYMENT-REQUIRED"));
    const accepted = required.accepts.find((offer) => offer.scheme === "batch-settlement");
    return { channel: computeChannelId(scheme.buildChannelConfig(accepted), network), accepted };
  },
};

start();
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await operations[command.op](command);
  } catch (error) {
    answer = { failed: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
