//! `millstream statement reconcile`: usage, vouchers and chain, compared to the base unit.

use std::collections::BTreeMap;

use millstream_billing::{Account, AccountOf, StatedVoucher, Statement};
use millstream_chain::session_escrow::SessionEscrow;
use millstream_chain::x402::BatchSettlement;
use millstream_chain::{Ledger, Rpc, RpcOptions};
use millstream_recovery::{Rebuild, RebuildOptions, RebuiltLedger};
use millstream_types::{Address, Amount, CumulativeAmount};
use millstream_voucher::evm::EscrowScheme;
use serde::Serialize;

use super::statement::{Anchors, ReconcileArgs, offline_findings};
use super::{Journal, Tally};
use crate::admin::Admin;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{View, columns};

/// What came of it. Amounts in nanos for channels of the ledger, else in base units.
#[derive(Serialize)]
struct ReconciledView {
    reconciles: bool,
    payers: usize,
    accounts: Vec<AccountView>,
    totals: Vec<TotalView>,
    /// Why the totals were not compared with the tallies; nothing when they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    tallies: Option<&'static str>,
    differences: Vec<String>,
}

/// One account, three ways.
#[derive(Serialize)]
struct AccountView {
    payer: Address,
    account: String,
    /// What its rows come to.
    usage: CumulativeAmount,
    /// What the payer signed for; none for single payments.
    voucher: Option<CumulativeAmount>,
    /// What the chain has paid or claimed; none for single payments, which are not compared.
    chain: Option<CumulativeAmount>,
    /// Charged and not yet on the chain.
    outstanding: Option<Amount>,
}

/// All accounts in one asset.
#[derive(Serialize)]
struct TotalView {
    asset: Address,
    usage: Amount,
    chain: Amount,
    outstanding: Amount,
}

/// Reads what was settled on the chain.
struct ChainSide {
    rpc: Rpc,
    anchors: Anchors,
    batch: Option<BatchSettlement>,
    sessions: BTreeMap<Address, SessionEscrow>,
    ledgers: BTreeMap<Address, Rebuild>,
}

pub(super) async fn run(context: &Context, args: &ReconcileArgs) -> CliResult<()> {
    let admin = args.ask.connect(context)?;
    let rpc = match &args.rpc {
        Some(url) => Rpc::connect(url, RpcOptions::default()).await?,
        None => Rpc::connect(context.profile()?.rpc_url()?, RpcOptions::default()).await?,
    };
    let before = admin.journal().await?;
    let key = args.key.unwrap_or(before.key);
    let payers = match args.payer {
        Some(payer) => vec![payer],
        None => admin.payers().await?,
    };
    let mut chain = ChainSide { rpc, anchors: Anchors::default(), batch: None, sessions: BTreeMap::new(), ledgers: BTreeMap::new() };
    let (mut accounts, mut differences, mut sums) = (Vec::new(), Vec::new(), Sums::default());
    for payer in &payers {
        let statement = admin.statement(*payer, None, None).await?;
        one(&statement, &key, &mut chain, &mut accounts, &mut differences, &mut sums).await?;
    }
    let tallies = if args.payer.is_some() {
        Some("they are of all payers")
    } else {
        compare_tallies(&admin, &before, &sums, &mut differences).await?
    };
    let view =
        ReconciledView { reconciles: differences.is_empty(), payers: payers.len(), totals: sums.totals(), accounts, tallies, differences };
    context.output.show(&view)?;
    match view.differences.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let message = format!("usage, vouchers and chain differ in {} places: {first}", view.differences.len());
            Err(CliError::check_failed("does_not_reconcile", message))
        }
    }
}

/// What was charged and what the chain has, by asset.
#[derive(Default)]
struct Sums {
    by_asset: BTreeMap<Address, (u128, u128, u128)>,
    /// Paid according to the rows, by asset: what the tallies sum up, too.
    rows: BTreeMap<Address, u128>,
}

impl Sums {
    fn add(&mut self, account: &Account, view: &AccountView) {
        let (usage, chain, outstanding) = self.by_asset.entry(account.asset).or_default();
        *usage = usage.saturating_add(view.usage.units());
        *chain = chain.saturating_add(view.chain.map_or(0, CumulativeAmount::units));
        *outstanding = outstanding.saturating_add(view.outstanding.map_or(0, Amount::units));
        let rows = self.rows.entry(account.asset).or_default();
        for row in &account.rows {
            let amount = row.amount().units();
            *rows = if row.is_reversal() { rows.saturating_sub(amount) } else { rows.saturating_add(amount) };
        }
    }

    fn totals(&self) -> Vec<TotalView> {
        let total = |(asset, (usage, chain, outstanding)): (&Address, &(u128, u128, u128))| {
            let [usage, chain, outstanding] = [*usage, *chain, *outstanding].map(Amount::from_units);
            TotalView { asset: *asset, usage, chain, outstanding }
        };
        self.by_asset.iter().map(total).collect()
    }
}

async fn one(
    statement: &Statement,
    key: &Address,
    chain: &mut ChainSide,
    accounts: &mut Vec<AccountView>,
    differences: &mut Vec<String>,
    sums: &mut Sums,
) -> CliResult<()> {
    let payer = statement.payer;
    let named = |finding: &dyn std::fmt::Display| format!("payer {payer}: {finding}");
    differences.extend(offline_findings(statement, key).iter().map(|finding| named(finding)));
    chain.anchors.read(&chain.rpc, statement).await?;
    differences.extend(statement.anchor_findings(&chain.anchors.roots).iter().map(|finding| named(finding)));
    for account in &statement.accounts {
        let (usage, voucher) = (account.closing, account.voucher.as_ref().map(StatedVoucher::cumulative));
        let settled = chain.settled(statement, account).await?;
        let outstanding = match settled {
            None => None,
            Some(settled) => match usage.delta_since(settled) {
                Ok(outstanding) => Some(outstanding),
                Err(_) => {
                    let what = format!("{}: the chain has taken {settled}, and the rows come to {usage}", account.of);
                    differences.push(named(&what));
                    None
                }
            },
        };
        if let (Some(settled), Some(voucher)) = (settled, voucher)
            && settled > voucher
        {
            differences.push(named(&format!("{}: the chain has taken {settled}, and the voucher is over {voucher}", account.of)));
        }
        let view = AccountView { payer, account: account.of.to_string(), usage, voucher, chain: settled, outstanding };
        sums.add(account, &view);
        accounts.push(view);
    }
    Ok(())
}

/// Compares the rows of all payers with the tallies of all days, unless payments went on meanwhile.
async fn compare_tallies(admin: &Admin, before: &Journal, sums: &Sums, differences: &mut Vec<String>) -> CliResult<Option<&'static str>> {
    let tallies: Vec<Tally> = admin.tallies_by_day().await?;
    if admin.journal().await?.batch != before.batch {
        return Ok(Some("payments went on meanwhile"));
    }
    let mut by_asset: BTreeMap<Address, u128> = BTreeMap::new();
    for tally in &tallies {
        let sum = by_asset.entry(tally.asset).or_default();
        *sum = sum.saturating_add(tally.amount.units()).saturating_sub(tally.reversed.units());
    }
    for asset in by_asset.keys().chain(sums.rows.keys()).collect::<std::collections::BTreeSet<_>>() {
        let [tallied, rows] = [&by_asset, &sums.rows].map(|sums| sums.get(asset).copied().unwrap_or_default());
        if tallied != rows {
            differences.push(format!("asset {asset}: the days come to {tallied}, and the rows of all payers to {rows}"));
        }
    }
    Ok(None)
}

impl ChainSide {
    /// What the chain has taken of an account: claimed, settled or paid. Nothing for single payments.
    async fn settled(&mut self, statement: &Statement, account: &Account) -> CliResult<Option<CumulativeAmount>> {
        if self.rpc.chain().get() != statement.chain_id {
            let message = format!("the node's chain is {}, the endpoint's is {}", statement.chain_id, self.rpc.chain());
            return Err(CliError::usage("another_chain", message));
        }
        match (account.of, &account.voucher) {
            (AccountOf::Payments(_), _) => Ok(None),
            (AccountOf::Ledger(channel), _) => {
                let rebuilt = self.rebuilt(statement.ledger).await?;
                Ok(Some(rebuilt.channel(&channel).map_or(CumulativeAmount::ZERO, |channel| channel.settled)))
            }
            (AccountOf::Escrow(channel), Some(StatedVoucher::Escrow { domain, contract, .. })) => {
                if domain == EscrowScheme::X402Batch.domain_name() {
                    if self.batch.is_none() {
                        self.batch = Some(BatchSettlement::attach(self.rpc.clone()).await?);
                    }
                    let Some(batch) = &self.batch else { return Ok(None) };
                    return Ok(Some(batch.newest_state(channel).await?.claimed));
                }
                if !self.sessions.contains_key(contract) {
                    self.sessions.insert(*contract, SessionEscrow::attach(self.rpc.clone(), *contract).await?);
                }
                let Some(escrow) = self.sessions.get(contract) else { return Ok(None) };
                Ok(Some(escrow.newest_state(channel).await?.settled))
            }
            // Its missing voucher is a finding already.
            (AccountOf::Escrow(_), _) => Ok(None),
        }
    }

    /// A ledger as its events tell it, read once.
    async fn rebuilt(&mut self, address: Address) -> CliResult<&RebuiltLedger> {
        if !self.ledgers.contains_key(&address) {
            let ledger = Ledger::attach(self.rpc.clone(), address).await?;
            let mut rebuild = Rebuild::start(ledger, RebuildOptions::default()).await?;
            rebuild.catch_up(&mut |_| {}).await?;
            self.ledgers.insert(address, rebuild);
        }
        let rebuild = self.ledgers.get(&address).ok_or_else(|| CliError::failed("failed", "a ledger that was read is gone"))?;
        Ok(rebuild.rebuilt())
    }
}

impl View for ReconciledView {
    fn table(&self) -> String {
        let verdict = match (self.reconciles, self.tallies) {
            (true, None) => format!("RECONCILES: usage, vouchers, chain and tallies of {} payers", self.payers),
            (true, Some(why)) => {
                format!("RECONCILES: usage, vouchers and chain of {} payers; tallies were not compared: {why}", self.payers)
            }
            (false, _) => format!("DIFFERS:\n  {}", self.differences.join("\n  ")),
        };
        let or_dash = |amount: Option<String>| amount.unwrap_or_else(|| "-".to_owned());
        let rows = self.accounts.iter().map(|account| {
            vec![
                account.payer.to_string(),
                account.account.clone(),
                account.usage.to_string(),
                or_dash(account.voucher.map(|amount| amount.to_string())),
                or_dash(account.chain.map(|amount| amount.to_string())),
                or_dash(account.outstanding.map(|amount| amount.to_string())),
            ]
        });
        let accounts = columns(&["payer", "account", "usage", "voucher", "chain", "outstanding"], &[2, 3, 4, 5], rows);
        let totals = self
            .totals
            .iter()
            .map(|total| vec![total.asset.to_string(), total.usage.to_string(), total.chain.to_string(), total.outstanding.to_string()]);
        let totals = columns(&["asset", "usage", "chain", "outstanding"], &[1, 2, 3], totals);
        format!("{verdict}\n\n{accounts}\n\n{totals}")
    }
}
