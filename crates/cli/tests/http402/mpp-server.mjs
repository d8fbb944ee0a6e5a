// A server of MPP as the package's documentation has it: Express, mppx, its method `evm` with a settlement of its own.
//
// Settings: rpc, chainId, key (with coins for gas), token, receiver. Sells `GET /fixed` for 1000 base units.
// Commands: fail { times } (so many settlements fail after the transfer was made). Says its port first.

import express from "express";
import { evm, Mppx } from "mppx/express";
import { createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { answer, settings } from "./lines.mjs";

const { rpc, chainId, key, token, receiver } = settings;
const nativeCurrency = { name: "Ether", symbol: "ETH", decimals: 18 };
const chain = defineChain({ id: chainId, name: "test", nativeCurrency, rpcUrls: { default: { http: [rpc] } } });
const wallet = createWalletClient({ account: privateKeyToAccount(key), chain, transport: http(rpc), pollingInterval: 50 }).extend(publicActions);
const abi = parseAbi(["function transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"]);
let failures = 0;

async function settle({ payload: { from, to, value, validAfter, validBefore, nonce, signature } }) {
  const args = [from, to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce, signature];
  const { request } = await wallet.simulateContract({ address: token, abi, functionName: "transferWithAuthorization", args });
  const hash = await wallet.writeContract(request);
  await wallet.waitForTransactionReceipt({ hash });
  if (failures > 0) {
    failures--;
    throw new Error("the connection to the chain broke");
  }
  return { reference: hash };
}

const mppx = Mppx.create({
  methods: [
    evm.charge({
      chainId,
      currency: token,
      decimals: 6,
      recipient: receiver,
      authorization: { name: "USD Coin", version: "2" },
      settle,
    }),
  ],
  realm: "shop",
  secretKey: "a secret of more than thirty-two characters",
});
const app = express();
app.get("/fixed", mppx.charge({ amount: "0.001" }), (_, response) => response.json({ sold: "fixed" }));
const fail = ({ times }) => {
  failures = times;
};
const listening = app.listen(0, "127.0.0.1", () => answer({ fail }, { port: listening.address().port }));
