// The channels that the load pays from and the server holds: both sides derive them, so nothing has to be sent.

import { computeChannelId } from "@x402/evm/batch-settlement/client";
import { privateKeyToAccount } from "viem/accounts";
import { numberToHex } from "viem";

export const CHAIN_ID = 84_532;
export const NETWORK = `eip155:${CHAIN_ID}`;
export const PRICE = 1n;
export const DEPOSIT = 1_000_000_000_000n;
export const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
export const WITHDRAW_DELAY_SECS = 900;

const key = (byte) => `0x${byte.repeat(32)}`;
export const payer = privateKeyToAccount(key("11"));
export const authorizer = privateKeyToAccount(key("22"));
export const provider = privateKeyToAccount(key("33"));

/** `count` channels between the same two; the salt tells them apart. Vouchers are signed by the authorizer, a plain key. */
export function channels(count) {
  return Array.from({ length: count }, (_, number) => {
    const config = {
      payer: payer.address,
      payerAuthorizer: authorizer.address,
      receiver: provider.address,
      receiverAuthorizer: provider.address,
      token: TOKEN,
      withdrawDelay: WITHDRAW_DELAY_SECS,
      salt: numberToHex(number + 1, { size: 32 }),
    };
    return { id: computeChannelId(config, NETWORK), config };
  });
}
