// The reference facilitator over HTTP: the three routes of its API, nothing else. Tests measure scripts against it before they measure ours.
//
// Settings: rpc, chainId, key (with coins for gas), authorizerKey?. Says its port first.

import express from "express";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/facilitator";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createTestClient, defineChain, http, publicActions, walletActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
// Not among viem's exports.
import { multicall3Bytecode } from "./node_modules/viem/_esm/constants/contracts.js";
import { answer, settings } from "./lines.mjs";

const network = `eip155:${settings.chainId}`;
const chain = defineChain({
  id: settings.chainId,
  name: "test",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [settings.rpc] } },
  contracts: { multicall3: { address: "0xcA11bde05977b3631167028862bE2a173976CA11" } },
});
const account = privateKeyToAccount(settings.key);
const client = createTestClient({ account, chain, mode: "anvil", transport: http(settings.rpc), pollingInterval: 50 })
  .extend(publicActions)
  .extend(walletActions);
// It reads channels through this contract, which a development chain lacks.
const { address: multicall } = chain.contracts.multicall3;
if (!(await client.getCode({ address: multicall }))) {
  const { data } = await client.call({ data: multicall3Bytecode });
  await client.setCode({ address: multicall, bytecode: data });
}
const signer = toFacilitatorEvmSigner({ ...client, address: account.address });
const authorizer = settings.authorizerKey && privateKeyToAccount(settings.authorizerKey);
const facilitator = new x402Facilitator()
  .register(network, new BatchSettlementEvmScheme(signer, authorizer))
  .register(network, new ExactEvmScheme(signer));

const app = express();
app.use(express.json({ limit: "1mb" }));
for (const what of ["verify", "settle"]) {
  app.post(`/${what}`, async (request, response) => {
    const { paymentPayload, paymentRequirements } = request.body;
    try {
      response.json(await facilitator[what](paymentPayload, paymentRequirements));
    } catch (error) {
      response.status(500).json({ error: String(error?.message ?? error) });
    }
  });
}
app.get("/supported", (_, response) => response.json(facilitator.getSupported()));
const listening = app.listen(0, "127.0.0.1", () => answer({}, { port: listening.address().port }));
