// A resource server as the packages' documentation has it: Express, the payment middleware, a facilitator over HTTP.
//
// Settings: facilitator (URL), facilitatorKey?, facilitatorTimeoutMs?, chainId, token, receiver, authorizerKey?, withdrawDelay?, scheme.
// Sells `GET /fixed` for 1000 base units, `GET /metered` for at most 1000 and 700 in fact, `GET /fails`, which fails.
// Commands: channels, claim, settle, refund { channels? }. Says its port first.

import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, setSettlementOverrides, x402ResourceServer } from "@x402/express";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { privateKeyToAccount } from "viem/accounts";
import { answer, settings } from "./lines.mjs";

const { chainId, token, receiver, authorizerKey, withdrawDelay, facilitatorKey, facilitatorTimeoutMs } = settings;
const network = `eip155:${chainId}`;
const headers = facilitatorKey && { Authorization: `Bearer ${facilitatorKey}` };
const facilitator = new HTTPFacilitatorClient({
  url: settings.facilitator,
  ...(facilitatorTimeoutMs && { timeoutMs: facilitatorTimeoutMs }),
  ...(headers && { createAuthHeaders: async () => ({ verify: headers, settle: headers, supported: headers }) }),
});
const exact = settings.scheme === "exact";
const scheme = exact
  ? new ExactEvmScheme()
  : new BatchSettlementEvmScheme(receiver, {
      ...(authorizerKey && { receiverAuthorizerSigner: privateKeyToAccount(authorizerKey) }),
      ...(withdrawDelay && { withdrawDelay }),
    });
const server = new x402ResourceServer(facilitator).register(network, scheme);
const manager = exact ? undefined : scheme.createChannelManager(facilitator, network, token);

const price = { asset: token, amount: "1000", extra: { name: "USD Coin", version: "2" } };
const route = { accepts: { scheme: exact ? "exact" : "batch-settlement", price, network, payTo: receiver, maxTimeoutSeconds: 300 } };
const app = express();
app.use(paymentMiddleware({ "GET /fixed": route, "GET /metered": route, "GET /fails": route }, server));
app.get("/fixed", (_, response) => response.json({ sold: "fixed" }));
app.get("/metered", (_, response) => {
  setSettlementOverrides(response, { amount: "700" });
  response.json({ sold: "metered" });
});
app.get("/fails", (_, response) => response.status(500).json({ sold: "nothing" }));

const listening = app.listen(0, "127.0.0.1", () => {
  const commands = {
    channels: async () => ({ channels: await scheme.getStorage().list() }),
    claim: async () => ({ claims: await manager.claim() }),
    settle: async () => ({ settled: await manager.settle() }),
    refund: async ({ channels }) => ({ refunds: await manager.refund(channels) }),
  };
  answer(commands, { port: listening.address().port });
});
