// A payer of MPP as the package's documentation has it: mppx around fetch, its method `evm`.
//
// Settings: key, chainId, token. Commands: pay { url, times?, together?, method?, body?, headers? }.

import { evm, Mppx } from "mppx/client";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { Receipt } from "mppx";
import { privateKeyToAccount } from "viem/accounts";
import { answer, settings } from "./lines.mjs";

const { key, chainId, token } = settings;
const account = privateKeyToAccount(key);
let exchanges = 0;
/** fetch itself; counts what went over the wire. */
async function seen(input, init) {
  exchanges++;
  return fetch(input, init);
}

const charge = evm.charge({
  account,
  networks: [chainId],
  currencies: [token],
  decimals: 6,
  maxAmount: "1",
  authorization: { name: "USD Coin", version: "2" },
});
const mppx = Mppx.create({ methods: [charge], fetch: seen, polyfill: false });

async function once({ url, method = "GET", body, headers }) {
  const before = exchanges;
  const response = await mppx.fetch(url, { method, body, headers });
  const [receipt, settled] = ["payment-receipt", "payment-response"].map((name) => response.headers.get(name));
  return {
    status: response.status,
    exchanges: exchanges - before,
    receipt: receipt && Receipt.deserialize(receipt),
    response: settled && decodePaymentResponseHeader(settled),
    required: null,
    body: await response.text(),
  };
}

async function pay({ times = 1, together = false, ...request }) {
  if (together) return { answers: await Promise.all(Array.from({ length: times }, () => once(request))) };
  const answers = [];
  for (let count = 0; count < times; count++) answers.push(await once(request));
  return { answers };
}

await answer({ pay }, { account: account.address });
