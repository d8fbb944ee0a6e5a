//! A development chain with x402's contracts and a token.

use std::sync::Arc;

use millstream_chain::session_escrow::deploy_session_escrow;
use millstream_chain::x402::{BatchSettlement, place_development_x402};
use millstream_chain::{ChainKey, PERMIT2, Rpc, RpcOptions, Submitter, SubmitterOptions, mint, token_balance};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, EscrowChannelId};
use serde_json::{Value, json};

use super::wait_for;

/// The account that runs the gateway: it pays for gas, and is the receiver authorizer.
pub const OPERATOR: usize = 0;
/// The first payer.
pub const PAYER: usize = 3;
/// Who is paid.
pub const RECEIVER: usize = 9;
/// Of each payer, at the start.
pub const TOKENS: u128 = 1_000_000_000;

pub struct Chain {
    pub anvil: Arc<Anvil>,
    pub rpc: Rpc,
    pub token: Address,
}

impl Chain {
    pub async fn start() -> Self {
        let anvil = blocking(|| Anvil::spawn(&AnvilOptions::default()).unwrap_or_else(|error| panic!("{error}"))).await;
        let rpc = Rpc::connect(&anvil.url(), RpcOptions::default()).await.expect("anvil answers");
        place_development_x402(&rpc).await.expect("placed");
        let chain = Self { anvil: Arc::new(anvil), rpc, token: Address::ZERO };
        let artifact: Value = serde_json::from_str(include_str!("../../../../contracts/artifacts/TestUSDC.json")).expect("JSON");
        let deployment = json!([{ "from": DEV_ACCOUNTS[8].address, "data": artifact["bytecode"] }]);
        let hash = chain.call("eth_sendTransaction", deployment).await;
        let mut receipt = Value::Null;
        wait_for("the token to be deployed", async || {
            receipt = chain.call("eth_getTransactionReceipt", json!([hash])).await;
            !receipt.is_null()
        })
        .await;
        let token = receipt["contractAddress"].as_str().and_then(|text| text.parse().ok()).expect("deployed");
        for account in &DEV_ACCOUNTS[PAYER..RECEIVER - 1] {
            mint(&chain.submitter(8), token, account.address, TOKENS).await.expect("minted");
        }
        Self { token, ..chain }
    }

    pub fn submitter(&self, account: usize) -> Submitter {
        let key = ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
        Submitter::new(self.rpc.clone(), key, SubmitterOptions::for_development())
    }

    pub async fn call(&self, method: &'static str, params: Value) -> Value {
        let anvil = Arc::clone(&self.anvil);
        blocking(move || anvil.call(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"))).await
    }

    pub async fn balance(&self, account: Address) -> u128 {
        token_balance(&self.rpc, self.token, account).await.expect("a balance")
    }

    /// The escrow of MPP's sessions is there, too.
    pub async fn with_sessions(self) -> Self {
        deploy_session_escrow(&self.submitter(8)).await.expect("deployed");
        self
    }

    /// An account lets Permit2 move its tokens, as its owner does once for each token.
    pub async fn approve_permit2(&self, account: usize) {
        let (owner, permit2) = (DEV_ACCOUNTS[account].address, PERMIT2.to_string());
        let data = format!("0x095ea7b3{:0>64}{}", permit2.trim_start_matches("0x"), "f".repeat(64));
        let hash = self.call("eth_sendTransaction", json!([{ "from": owner, "to": self.token.to_string(), "data": data }])).await;
        wait_for("the approval", async || self.call("eth_getTransactionReceipt", json!([hash])).await["status"] == "0x1").await;
    }

    /// Balance and claimed total of a channel, in the newest block.
    pub async fn state(&self, channel: EscrowChannelId) -> (u128, u128) {
        let contract = BatchSettlement::attach(self.rpc.clone()).await.expect("placed");
        let state = contract.newest_state(channel).await.expect("a state");
        (state.balance.units(), state.claimed.units())
    }

    /// What a script has to know of it.
    pub fn settings(&self) -> Value {
        json!({ "rpc": self.anvil.url(), "chainId": self.anvil.chain_id(), "token": self.token.to_string() })
    }
}

pub fn key(account: usize) -> String {
    format!("0x{}", hex::encode(DEV_ACCOUNTS[account].secret))
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
