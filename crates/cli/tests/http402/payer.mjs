// A payer as the packages' documentation has it: @x402/fetch around fetch, the scheme of @x402/evm, state in memory.
//
// Settings: rpc, chainId, key, scheme ("batch-settlement" or "exact"), and for channels salt, depositMultiplier.
// Commands: pay { url, times?, together?, method?, body?, headers? }, refund { url, amount? }, forget,
// again { url } (the last payment that was sent, as it was).

import { wrapFetchWithPayment, x402Client, x402HTTPClient } from "@x402/fetch";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader } from "@x402/core/http";
import { toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { answer, settings } from "./lines.mjs";

const account = privateKeyToAccount(settings.key);
const chain = createPublicClient({ transport: http(settings.rpc) });
let scheme, pay;

/** A client without any state: what it knows it reads from the chain, or is told by the server. */
function forget() {
  const signer = toClientEvmSigner(account, chain);
  if (settings.scheme === "exact") {
    scheme = new ExactEvmScheme(signer);
  } else {
    const { salt, depositMultiplier } = settings;
    const depositPolicy = depositMultiplier && { depositMultiplier };
    scheme = new BatchSettlementEvmScheme(signer, { rpcUrl: settings.rpc, ...(salt && { salt }), ...(depositPolicy && { depositPolicy }) });
  }
  const client = new x402Client().register(`eip155:${settings.chainId}`, scheme);
  // The token of the test is none of the packages' default ones.
  client.setSpendControls({ allowedAssets: true });
  pay = wrapFetchWithPayment(seen, new x402HTTPClient(client));
}

let exchanges = 0;
let last;
/** fetch itself; counts what went over the wire, and keeps the last payment. */
async function seen(input, init) {
  exchanges++;
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
  last = headers.get("payment-signature") ?? last;
  return fetch(input, init);
}

async function again({ url }) {
  const response = await fetch(url, { headers: { "payment-signature": last } });
  return { answers: [await told(response, 1)] };
}

async function once({ url, method = "GET", body, headers }) {
  const before = exchanges;
  const response = await pay(url, { method, body, headers });
  return told(response, exchanges - before);
}

async function told(response, exchanges) {
  const [settled, required] = ["payment-response", "payment-required"].map((name) => response.headers.get(name));
  return {
    status: response.status,
    exchanges,
    response: settled && decodePaymentResponseHeader(settled),
    required: required && decodePaymentRequiredHeader(required),
    body: await response.text(),
  };
}

/** What is the same in all answers, and all answers where they are few. */
async function many({ times = 1, together = false, ...request }) {
  if (together) return { answers: await Promise.all(Array.from({ length: times }, () => once(request))) };
  const answers = [];
  for (let count = 0; count < times; count++) answers.push(await once(request));
  return { answers };
}

async function refund({ url, amount }) {
  return { response: await scheme.refund(url, amount ? { amount } : {}) };
}

forget();
await answer({ pay: many, refund, forget, again }, { account: account.address });
