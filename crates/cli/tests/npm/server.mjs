// An x402 resource server as it is published, unmodified, with somebody else's facilitator: prints its port, then serves until it is killed.
//
// node server.mjs FACILITATOR_URL NETWORK TOKEN PAY_TO AMOUNT
//   GET /paid            costs AMOUNT
//   GET /partial?n=…     costs n, of AMOUNT at most
//   POST /claim          claims from all channels and sweeps

import express from "express";
import { HTTPFacilitatorClient, x402ResourceServer } from "@x402/core/server";
import { paymentMiddleware, setSettlementOverrides } from "@x402/express";
import { BatchSettlementChannelManager, BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/server";

const [facilitatorUrl, network, token, payTo, amount] = process.argv.slice(2);
const facilitator = new HTTPFacilitatorClient({ url: facilitatorUrl });
const scheme = new BatchSettlementEvmScheme(payTo, {});
const server = new x402ResourceServer(facilitator).register(network, scheme);
const price = { asset: token, amount, extra: { name: "USD Coin", version: "2" } };
const accepts = { scheme: "batch-settlement", network, payTo, price };
const routes = { "GET /paid": { accepts }, "GET /partial": { accepts } };

const app = express();
app.use(paymentMiddleware(routes, server));
app.get("/paid", (_request, response) => response.json({ paid: true }));
app.get("/partial", (request, response) => {
  setSettlementOverrides(response, { amount: String(request.query.n) });
  response.json({ paid: request.query.n });
});
app.post("/claim", async (_request, response) => {
  const manager = new BatchSettlementChannelManager({ scheme, facilitator, receiver: payTo, token, network });
  response.json(await manager.claimAndSettle());
});

const listener = app.listen(0, "127.0.0.1", () => process.stdout.write(`${listener.address().port}\n`));
