// The reference server as a provider would run it: Express, the payment middleware, the batch-settlement scheme, one paid route.
//
// Channels are in its storage from the start, as a deposit would have left them: there is no chain here. Everything that a voucher
// needs after that the server does by itself. Its facilitator is the reference one, in this process, with a signer that throws: a
// payment that needed the chain would fail.
//
// Started by bench.mjs with an IPC channel and `STORAGE [PATH]`: memory, file DIRECTORY, or redis SOCKET.

import express from "express";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { x402Facilitator } from "@x402/core/facilitator";
import { BatchSettlementEvmScheme as FacilitatorScheme } from "@x402/evm/batch-settlement/facilitator";
import { BatchSettlementEvmScheme as ServerScheme, InMemoryChannelStorage } from "@x402/evm/batch-settlement/server";
import { FileChannelStorage } from "@x402/evm/batch-settlement/server/file-storage";
import { RedisChannelStorage } from "@x402/evm/batch-settlement/server/redis-storage";
import { createClient } from "redis";
import { channels, DEPOSIT, NETWORK, PRICE, provider, TOKEN, WITHDRAW_DELAY_SECS } from "./channels.mjs";

const [, , storageKind, path, channelCount] = process.argv;

async function openStorage() {
  switch (storageKind) {
    case "memory":
      return new InMemoryChannelStorage();
    case "file":
      return new FileChannelStorage({ directory: path });
    case "redis": {
      const client = createClient({ socket: { path } });
      await client.connect();
      await client.flushAll();
      return new RedisChannelStorage({ client });
    }
    default:
      throw new Error(`unknown storage ${storageKind}`);
  }
}

const noChain = () => {
  throw new Error("this payment needed the chain");
};
const signer = {
  getAddresses: () => [provider.address],
  readContract: noChain,
  verifyTypedData: noChain,
  writeContract: noChain,
  sendTransaction: noChain,
  waitForTransactionReceipt: noChain,
  getCode: noChain,
};

const storage = await openStorage();
const held = channels(Number(channelCount));
for (const { id, config } of held) {
  await storage.updateChannel(id, () => ({
    channelId: id,
    channelConfig: config,
    chargedCumulativeAmount: "0",
    signedMaxClaimable: "0",
    signature: "0x",
    balance: DEPOSIT.toString(),
    totalClaimed: "0",
    withdrawRequestedAt: 0,
    refundNonce: 0,
    onchainSyncedAt: Date.now(),
    lastRequestTimestamp: Date.now(),
  }));
}

const facilitator = new x402Facilitator().register(NETWORK, new FacilitatorScheme(signer, provider));
const server = new x402ResourceServer({
  verify: (payload, requirements) => facilitator.verify(payload, requirements),
  settle: (payload, requirements) => facilitator.settle(payload, requirements),
  getSupported: async () => facilitator.getSupported(),
}).register(
  NETWORK,
  new ServerScheme(provider.address, { storage, receiverAuthorizerSigner: provider, withdrawDelay: WITHDRAW_DELAY_SECS }),
);
const price = { amount: PRICE.toString(), asset: TOKEN, extra: { name: "USDC", version: "2" } };
const accepts = { scheme: "batch-settlement", price, network: NETWORK, payTo: provider.address };

const app = express();
app.use(paymentMiddleware({ "GET /paid": { accepts, description: "one paid answer", mimeType: "application/json" } }, server));
app.get("/paid", (_, response) => response.json({ paid: true }));

const listener = app.listen(0, "127.0.0.1", () => process.send({ port: listener.address().port }));
process.on("message", async () => {
  let charged = 0n;
  for (const { id } of held) charged += BigInt((await storage.get(id)).chargedCumulativeAmount);
  process.send({ charged: charged.toString() });
});
process.on("disconnect", () => process.exit(0));
