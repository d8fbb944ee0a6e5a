//! A chain with a ledger on it, for the tests of this crate.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod points;
pub mod proxy;

use std::time::Duration;

use millstream_chain::{
    ChainKey, DeployPlan, Deployment, KeyProvenance, Ledger, OpenRequest, Operator, Payer, Rpc, RpcOptions, Submitter, SubmitterOptions,
    TierPlan, TokenChoice, VerifyingKeyWords, VoucherKeyWitness, deploy, mint,
};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::Amount;
use serde_json::{Value, json};

/// Slots of a book of the test ledger's tier 0.
pub const SLOTS: u16 = 24;
/// The test ledger's response window.
pub const RESPONSE_WINDOW_SECS: u64 = 3_600;
/// The test ledger's halt window.
pub const HALT_WINDOW_SECS: u64 = 7_200;
/// The root of an empty book of the test ledger; it has nothing to do with a tree.
pub const EMPTY_ROOT: [u8; 32] = [0x11; 32];
/// Creation and operation are by account 0, the payer is 1, a bystander 2.
pub const OPERATOR: usize = 0;
pub const PAYER: usize = 1;
pub const BYSTANDER: usize = 2;

pub struct World {
    pub anvil: Anvil,
    pub rpc: Rpc,
    pub ledger: Ledger,
    pub deployment: Deployment,
}

pub fn anvil(options: &AnvilOptions) -> Anvil {
    Anvil::spawn(options).unwrap_or_else(|error| panic!("{error}"))
}

pub async fn connect(anvil: &Anvil) -> Rpc {
    Rpc::connect(&anvil.url(), RpcOptions::default()).await.expect("anvil answers")
}

pub fn key(account: usize) -> ChainKey {
    ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key")
}

pub fn submitter(rpc: &Rpc, account: usize) -> Submitter {
    submitter_with(rpc, account, SubmitterOptions::for_development())
}

pub fn submitter_with(rpc: &Rpc, account: usize, options: SubmitterOptions) -> Submitter {
    Submitter::new(rpc.clone(), key(account), options)
}

fn word(hex: &str) -> [u8; 32] {
    hex.parse::<millstream_types::Hash256>().map(|hash| *hash.as_bytes()).expect("32 bytes")
}

pub fn verifying_key() -> VerifyingKeyWords {
    points::VERIFYING_KEY.map(word)
}

pub fn voucher_key(index: usize) -> VoucherKeyWitness {
    let [x, qx, qy] = points::VOUCHER_KEYS[index].map(word);
    VoucherKeyWitness { x, qx, qy }
}

pub fn open_request(salt: u8, deposit_base_units: u128) -> OpenRequest {
    OpenRequest { key: voucher_key(0), salt: [salt; 32], deposit_base_units }
}

pub fn plan(token: TokenChoice) -> DeployPlan {
    DeployPlan {
        provenance: KeyProvenance::InsecureDevelopment,
        provider: DEV_ACCOUNTS[OPERATOR].address,
        operator: DEV_ACCOUNTS[OPERATOR].address,
        response_window_secs: RESPONSE_WINDOW_SECS,
        halt_window_secs: HALT_WINDOW_SECS,
        deposit_min: Amount::ZERO,
        token,
        salt: [0; 32],
        tiers: vec![TierPlan { slots: SLOTS, empty_root: EMPTY_ROOT, settle_key: verifying_key(), register_key: verifying_key() }],
    }
}

pub async fn world() -> World {
    world_with(TokenChoice::TestUsdc).await
}

/// A ledger on a chain of its own; the payer and the bystander have a million tokens each.
pub async fn world_with(token: TokenChoice) -> World {
    world_on(&AnvilOptions::default(), token).await
}

pub async fn world_on(options: &AnvilOptions, token: TokenChoice) -> World {
    let anvil = anvil(options);
    let rpc = connect(&anvil).await;
    let deployer = submitter(&rpc, OPERATOR);
    let deployment = deploy(&deployer, &plan(token)).await.expect("deployed");
    for account in [PAYER, BYSTANDER] {
        mint(&deployer, deployment.token, DEV_ACCOUNTS[account].address, 1_000_000_000_000).await.expect("minted");
    }
    let ledger = Ledger::attach(rpc.clone(), deployment.ledger).await.expect("attached");
    World { anvil, rpc, ledger, deployment }
}

impl World {
    pub fn payer(&self) -> Payer {
        self.payer_of(PAYER)
    }

    pub fn payer_of(&self, account: usize) -> Payer {
        Payer::new(self.ledger.clone(), submitter(&self.rpc, account))
    }

    pub fn operator(&self) -> Operator {
        Operator::new(self.ledger.clone(), submitter(&self.rpc, OPERATOR))
    }

    /// Makes both verifiers of tier 0 accept everything, so that `settle` and `register` run without proofs.
    pub fn accept_every_proof(&self) {
        // PUSH1 1, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN: returns true.
        let code = "0x600160005260206000f3";
        let (settle, register) = self.deployment.verifiers[0];
        for verifier in [settle, register] {
            self.call("anvil_setCode", json!([verifier.to_string(), code]));
        }
    }

    /// Makes the ledger's book paths answer this root to everything.
    pub fn answer_every_path(&self, root: [u8; 32]) {
        // PUSH32 root, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN.
        let code = format!("0x7f{}60005260206000f3", millstream_types::Hash256::from_bytes(root).to_string().trim_start_matches("0x"));
        self.call("anvil_setCode", json!([self.deployment.book_paths.to_string(), code]));
    }

    /// Lets so many seconds pass, and one block.
    pub fn pass(&self, secs: u64) {
        self.call("evm_increaseTime", json!([secs]));
        self.call("evm_mine", json!([]));
    }

    /// Blocks only on demand from here on.
    pub fn stop_mining(&self) {
        self.call("evm_setAutomine", json!([false]));
    }

    pub fn call(&self, method: &str, params: Value) -> Value {
        self.anvil.call(method, &params).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn account_nonce(&self, account: usize) -> u64 {
        number(&self.call("eth_getTransactionCount", json!([DEV_ACCOUNTS[account].address.to_string(), "latest"])))
    }

    /// The account's transactions that wait to be mined, by nonce: the hash and the fee.
    pub fn pooled(&self, account: usize) -> Vec<(u64, String, u128)> {
        let content = self.call("txpool_content", json!([]));
        let address = DEV_ACCOUNTS[account].address.to_string();
        let of = content["pending"].as_object().expect("an object").iter().find(|(sender, _)| sender.eq_ignore_ascii_case(&address));
        let Some((_, transactions)) = of else { return Vec::new() };
        let transactions = transactions.as_object().expect("an object").iter();
        let pooled = transactions.map(|(nonce, transaction)| {
            let fee = transaction["maxFeePerGas"].as_str().expect("text").trim_start_matches("0x");
            let hash = transaction["hash"].as_str().expect("text").to_owned();
            (nonce.parse().expect("a number"), hash, u128::from_str_radix(fee, 16).expect("hexadecimal"))
        });
        let mut pooled: Vec<_> = pooled.collect();
        pooled.sort();
        pooled
    }
}

pub fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("text").trim_start_matches("0x"), 16).expect("hexadecimal")
}

/// Looks again and again until there is something, for at most 30 seconds.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
