// fetch that pays by x402: @x402/fetch with the scheme of @x402/evm, state in memory.

import { wrapFetchWithPayment, x402Client, x402HTTPClient } from "@x402/fetch";
import { toClientEvmSigner } from "@x402/evm";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { settings } from "./lines.mjs";

export function paying() {
  const signer = toClientEvmSigner(privateKeyToAccount(settings.key), createPublicClient({ transport: http(settings.rpc) }));
  const client = new x402Client().register(`eip155:${settings.chainId}`, new BatchSettlementEvmScheme(signer, { rpcUrl: settings.rpc }));
  client.setSpendControls({ allowedAssets: true });
  return wrapFetchWithPayment(fetch, new x402HTTPClient(client));
}
