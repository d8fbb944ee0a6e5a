//! What the chain says: reachable, the right one, alive, with contracts where they should be and coins for gas.

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_chain::{ChainError, Ledger, Rpc, RpcOptions, coin_balance};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, ChainId};

use super::subject::Subject;
use super::{DoctorArgs, Finding, State};
use crate::error::chain_of;

/// How far the chain may be ahead of this machine.
const AHEAD_SECS_MAX: u64 = 60;

/// Everything that is asked of the chain. What cannot be asked any more, because an answer before it was wrong, is left out.
pub(super) async fn checks(subject: &Subject, account: Option<Address>, args: &DoctorArgs) -> Vec<Finding> {
    let show = format!("millstream config show --config {}", subject.config.display());
    let mut findings = Vec::new();
    let rpc = match Rpc::connect(&subject.rpc_url, RpcOptions::default()).await {
        Ok(rpc) => rpc,
        Err(error) => {
            let remedy = "start the chain's node, or name an endpoint that answers in chain.rpc_url";
            // The URL may hold a key: it is not repeated.
            findings.push(Finding::fault("rpc", chain_of(&error), remedy, show));
            findings.extend(development_key(subject.chain_id.map(ChainId::new), account));
            return findings;
        }
    };
    findings.push(Finding::ok("rpc", "the endpoint answers"));
    findings.extend(development_key(Some(rpc.chain()), account));
    match subject.chain_id {
        Some(expected) if expected != rpc.chain().get() => {
            let found = format!("the endpoint serves chain {}, and the configuration names {expected}", rpc.chain());
            findings.push(Finding::fault(
                "chain_id",
                found,
                "correct chain.chain_id, or name an endpoint of that chain in chain.rpc_url",
                show,
            ));
            return findings;
        }
        _ => findings.push(Finding::ok("chain_id", format!("the endpoint serves chain {}", rpc.chain()))),
    }
    findings.extend(clock(&rpc, args).await);
    findings.extend(contracts(subject, &rpc, account, &show).await);
    if let Some(account) = account {
        findings.push(coins(&rpc, account, args).await);
    }
    findings
}

/// The keys of development accounts are known to everybody.
fn development_key(chain: Option<ChainId>, account: Option<Address>) -> Option<Finding> {
    let (chain, account) = (chain?, account?);
    if chain.is_development() {
        return None;
    }
    Some(if DEV_ACCOUNTS.iter().any(|known| known.address == account) {
        let found = format!("{account} is an account of development chains, whose key everybody knows, and chain {chain} is public");
        let remedy = "make a key of your own, and move what this account has there at once";
        Finding::fault("development_keys", found, remedy, "millstream key new operator")
    } else {
        Finding::ok("development_keys", "the operator's key is none that everybody knows")
    })
}

async fn clock(rpc: &Rpc, args: &DoctorArgs) -> Vec<Finding> {
    let block = match rpc.head_time().await {
        Ok(time) => time.as_secs_down(),
        Err(error) => {
            let remedy = "look at the chain's node: it answers some calls and not others";
            return vec![Finding::fault("chain_lag", chain_of(&error), remedy, "millstream doctor --help")];
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (ahead, age) = (block.saturating_sub(now), now.saturating_sub(block));
    let is_development = rpc.chain().is_development();
    let clock = if ahead > AHEAD_SECS_MAX {
        let found = format!("the chain's newest block is {ahead} seconds ahead of this machine's clock");
        let remedy = "set this machine's clock by NTP: deadlines and offers are judged by both clocks";
        let finding = Finding::fault("clock", found, remedy, "timedatectl set-ntp true");
        // Somebody who advances a development chain's time knows it.
        if is_development { Finding { state: State::Warning, ..finding } } else { finding }
    } else {
        Finding::ok("clock", "this machine's clock is not behind the chain's")
    };
    let lag = if age > args.block_age_max && !is_development {
        let found = format!("the newest block is {age} seconds old: the endpoint lags, or the chain stands");
        let remedy = "wait until the chain's node has caught up, or name another endpoint in chain.rpc_url: payments wait meanwhile";
        Finding::fault("chain_lag", found, remedy, "timedatectl status")
    } else {
        Finding::ok("chain_lag", format!("the newest block is {age} seconds old"))
    };
    vec![clock, lag]
}

async fn contracts(subject: &Subject, rpc: &Rpc, account: Option<Address>, show: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(address) = subject.ledger {
        match Ledger::attach(rpc.clone(), address).await {
            Ok(ledger) => {
                findings.push(Finding::ok("contract", format!("chain.ledger: there is a ledger at {address}")));
                findings.extend(operator(&ledger, account).await);
                if let Err(error) = millstream_node::require_keys(&ledger) {
                    let remedy =
                        "deploy a ledger with the keys of a ceremony that this build pins: with development keys anyone can forge proofs";
                    findings.push(Finding::fault("proving_keys", format!("{error:#}"), remedy, "millstream ceremony --help"));
                }
            }
            Err(error @ ChainError::NoContract { .. }) => {
                let remedy = "correct chain.ledger, or deploy a ledger on this chain";
                findings.push(Finding::fault("contract", chain_of(&error), remedy, "millstream deploy --help"));
            }
            Err(error) => {
                let remedy = "name the address of a ledger in chain.ledger: what is there is none, or cannot be asked";
                findings.push(Finding::fault("contract", chain_of(&error), remedy, show));
            }
        }
    }
    if let Some(asset) = subject.asset {
        findings.push(match rpc.is_contract(asset).await {
            Ok(true) => Finding::ok("contract", format!("payment.asset: there is a contract at {asset}")),
            Ok(false) => {
                let found = format!("payment.asset: there is no contract at {asset} on chain {}", rpc.chain());
                Finding::fault("contract", found, "correct the token's address in payment.asset, or the chain", show)
            }
            Err(error) => {
                Finding::fault("contract", chain_of(&error), "look at the chain's node: it answers some calls and not others", show)
            }
        });
    }
    findings
}

async fn operator(ledger: &Ledger, account: Option<Address>) -> Option<Finding> {
    let account = account?;
    Some(match ledger.operator().await {
        Ok(operator) if operator == account => Finding::ok("operator", format!("{account} is the ledger's operator")),
        Ok(operator) => Finding::fault(
            "operator",
            format!("the ledger's operator is {operator}, and the key is of {account}"),
            "use the operator's key, or have the provider name this account on the ledger",
            "millstream key list",
        ),
        Err(error) => Finding::fault(
            "operator",
            chain_of(&error),
            "look at the chain's node: it answers some calls and not others",
            "millstream key list",
        ),
    })
}

async fn coins(rpc: &Rpc, account: Address, args: &DoctorArgs) -> Finding {
    let send = format!("cast send {account} --value 0.01ether");
    match coin_balance(rpc, account).await {
        Ok(0) => {
            let found = format!("{account} has no coins for gas on chain {}", rpc.chain());
            Finding::fault("coins", found, format!("send coins to {account}: nothing can be settled, claimed or deposited without"), send)
        }
        Ok(wei) if wei < args.coins_min => {
            let found = format!("{account} has {wei} wei for gas, less than {}", args.coins_min);
            Finding::fault("coins", found, format!("send coins to {account} before they are used up"), send)
        }
        Ok(wei) => Finding::ok("coins", format!("{account} has {wei} wei for gas")),
        Err(error) => Finding::fault("coins", chain_of(&error), "look at the chain's node: it answers some calls and not others", send),
    }
}
