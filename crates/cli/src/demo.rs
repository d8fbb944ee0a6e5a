//! `millstream demo`: the main job end to end, checked against the chain, and gone afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use millstream_chain::{Payer, token_balance};
use millstream_load::process::Usage;
use millstream_types::{Amount, ChannelId, EpochId, Hash256};
use serde::Serialize;

use crate::admin::{Admin, SettleRun};
use crate::context::Context;
use crate::dev::{Dev, DevOptions, NodeProcess};
use crate::error::{CliError, CliResult, Exit};
use crate::output::{View, pairs};
use crate::replay::{self, ReplayArgs, ReplayProgress, ReplayReport, ReplaySession};

/// What the demo tops the closed channel up with, so that there is something to refund: 2.5 USDC.
const TOP_UP_BASE_UNITS: u128 = 2_500_000;

/// How long the node may take to see what happened on its own machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `millstream demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Payments to stream, at least
    #[arg(long, default_value_t = 1_000_000)]
    pub payments: u64,
    /// Channels to spread them over: 2 to 96
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(2..=96))]
    pub channels: u16,
    /// Payments under one signature
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub sign_every: u16,
}

/// What the demo did. Amounts in nanos unless named otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Payments acknowledged.
    pub payments: u64,
    /// Channels that paid.
    pub channels: usize,
    /// Seconds from the first payment to the last ack.
    pub seconds: f64,
    /// Payments a second.
    pub payments_per_second: f64,
    /// Median time from sending a frame to its durable ack.
    pub ack_p50_ms: f64,
    /// 99 % of the frames were acknowledged within this time.
    pub ack_p99_ms: f64,
    /// Payments under one signature.
    pub payments_per_signature: usize,
    /// The sum of the vouchers.
    pub voucher_total: Amount,
    /// What the provider's token balance grew by, in base units of the token.
    pub provider_balance_delta: u128,
    /// What is left as the provider's credit: less than a base unit.
    pub provider_credit_left: Amount,
    /// What the closed channel's payer got back, in base units of the token.
    pub refunded: u128,
    /// Transactions that collected the payments.
    pub settle_txs: usize,
    /// Gas of the settlement for each channel.
    pub gas_per_channel: u64,
    /// Gas of the settlement for each payment.
    pub gas_per_payment: f64,
    /// Seconds to prove the settlement.
    pub prove_seconds: f64,
    /// Gas of putting the channels into their book.
    pub register_gas: u64,
    /// Processor seconds of the node over the replay.
    pub node_cpu_seconds: f64,
    /// How the binary was built.
    pub build: &'static str,
    /// How payments are made durable before they are acknowledged.
    pub durability: &'static str,
    /// Seconds for everything.
    pub total_seconds: f64,
    /// What was checked.
    pub checks: BTreeMap<&'static str, bool>,
}

impl View for DemoReport {
    fn table(&self) -> String {
        let mut rows = vec![
            ("payments", format!("{} on {} channels in {:.2} s", self.payments, self.channels, self.seconds)),
            ("rate", format!("{:.0} payments/s, {} under one signature", self.payments_per_second, self.payments_per_signature)),
            ("ack", format!("p50 {:.2} ms, p99 {:.2} ms, after the sync ({})", self.ack_p50_ms, self.ack_p99_ms, self.build)),
            ("vouchers", format!("{} USDC", self.voucher_total.to_tokens())),
            (
                "provider",
                format!("{} base units paid out, {} nanos left as credit", self.provider_balance_delta, self.provider_credit_left),
            ),
            ("refund", format!("{} base units to the payer of the closed channel", self.refunded)),
            (
                "settlement",
                format!(
                    "{} transaction, {} gas a channel, {:.3} gas a payment",
                    self.settle_txs, self.gas_per_channel, self.gas_per_payment
                ),
            ),
            ("proof", format!("{:.2} s", self.prove_seconds)),
            ("everything", format!("{:.1} s", self.total_seconds)),
        ];
        rows.extend(self.checks.iter().map(|(name, holds)| (*name, if *holds { "✓" } else { "✗ does NOT hold" }.to_owned())));
        pairs(rows)
    }
}

/// Runs the demo in a directory of its own, which is removed afterwards.
///
/// # Errors
/// What failed, or which check does not hold.
pub async fn run(context: &Context, args: &DemoArgs) -> CliResult<()> {
    let failed = |error: anyhow::Error| CliError::new(Exit::Failed, "demo_failed", format!("{error:#}"));
    let directory = std::env::temp_dir().join(format!("millstream-demo-{}", std::process::id()));
    let outcome = demo(context, args, directory.clone()).await;
    // What is left of a demo that failed early is no more than a few files.
    let _ = std::fs::remove_dir_all(&directory);
    let report = outcome.map_err(failed)?;
    context.output.show(&report)?;
    let broken: Vec<&str> = report.checks.iter().filter(|(_, holds)| !**holds).map(|(name, _)| *name).collect();
    if broken.is_empty() { Ok(()) } else { Err(CliError::check_failed("demo_checks", format!("does not hold: {}", broken.join(", ")))) }
}

async fn demo(context: &Context, args: &DemoArgs, directory: PathBuf) -> anyhow::Result<DemoReport> {
    let started = Instant::now();
    let step = |text: &str| context.output.note(&format!("[{:>5.1} s] {text}", started.elapsed().as_secs_f64()));
    let mut dev = Dev::start(DevOptions::new(directory)?, step).await?;
    let admin = Admin::new(&dev.info().admin_url)?;
    let (provider, token) = (dev.info().provider, dev.info().token);
    let balance = async || token_balance(dev.ledger.rpc(), token, provider).await;
    let balance_before = balance().await?;

    step(&format!("opening {} channels and replaying {} payments over QUIC", args.channels, args.payments));
    let replay = ReplayArgs {
        trace: None,
        channels: u32::from(args.channels),
        speed: None,
        sign_every: usize::from(args.sign_every),
        seed: 0,
        payments: Some(args.payments),
        price_context: "0.15".to_owned(),
        price_generated: "0.60".to_owned(),
        settle: false,
    };
    let session = ReplaySession::open(&dev.profile, false).await?;
    let cpu_before = cpu_seconds(&dev.node);
    let replayed = replay::run(&session, &replay.options()?, &Arc::new(ReplayProgress::new()?)).await?;
    drop(session);
    let node_cpu_seconds = cpu_seconds(&dev.node) - cpu_before;

    step("sealing the billing epochs");
    let epoch = seal(&admin).await?;

    step("proving and settling on-chain");
    let settled = admin.settle_run().await?;
    let paid_out = withdraw_provider(&dev).await?;
    let credit_left = dev.ledger.credit(provider).await?;
    let provider_balance_delta = balance().await? - balance_before;

    step("topping one channel up, closing it and refunding its payer");
    let channel = admin.channels().await?.first().context("there are channels")?.channel;
    let (refunded, refund_is_exact) = close(&dev, &admin, channel).await?;

    step("proving that one payment is in the anchored bill");
    let (included, forged) = prove_inclusion(&dev, &admin, channel, epoch).await?;

    step("stopping the node");
    dev.node.stop()?;

    let collected: u128 = dev.ledger.config().unit.nanos(provider_balance_delta)?.units() + credit_left.units();
    let settlements: Vec<_> = settled.transactions.iter().filter(|transaction| transaction.kind == "settle").collect();
    let gas: u64 = settlements.iter().map(|transaction| transaction.gas_used).sum();
    let settled_channels: u64 = settlements.iter().map(|transaction| transaction.channels).sum();
    let checks = BTreeMap::from([
        ("every payment was acknowledged", replayed.payments >= args.payments),
        ("vouchers equal the price", replayed.voucher_total == replayed.priced_total),
        ("one transaction settled every channel", settlements.len() == 1 && settled_channels == u64::from(args.channels)),
        ("on-chain credit and payout equal the vouchers", collected == replayed.voucher_total.units()),
        ("payout is the whole base units", paid_out == provider_balance_delta && credit_left.units() < 1_000),
        ("the closed channel's payer got the rest back", refund_is_exact && refunded > 0),
        ("a payment is proved from the anchored root", included),
        ("a changed payment is not", !forged),
    ]);
    Ok(report(
        args,
        &replayed,
        &settled,
        checks,
        Totals { provider_balance_delta, credit_left, refunded, gas, node_cpu_seconds, total_seconds: started.elapsed().as_secs_f64() },
    ))
}

struct Totals {
    provider_balance_delta: u128,
    credit_left: Amount,
    refunded: u128,
    gas: u64,
    node_cpu_seconds: f64,
    total_seconds: f64,
}

fn report(
    args: &DemoArgs,
    replayed: &ReplayReport,
    settled: &SettleRun,
    checks: BTreeMap<&'static str, bool>,
    totals: Totals,
) -> DemoReport {
    let of_kind = |kind: &'static str| settled.transactions.iter().filter(move |transaction| transaction.kind == kind);
    #[allow(clippy::cast_precision_loss, reason = "a ratio to look at")]
    let gas_per_payment = totals.gas as f64 / replayed.payments as f64;
    DemoReport {
        payments: replayed.payments,
        channels: replayed.channels,
        seconds: replayed.seconds,
        payments_per_second: replayed.payments_per_second,
        ack_p50_ms: replayed.ack_p50_ms,
        ack_p99_ms: replayed.ack_p99_ms,
        payments_per_signature: replayed.lines_per_signature,
        voucher_total: replayed.voucher_total,
        provider_balance_delta: totals.provider_balance_delta,
        provider_credit_left: totals.credit_left,
        refunded: totals.refunded,
        settle_txs: of_kind("settle").count(),
        gas_per_channel: totals.gas / u64::from(args.channels),
        gas_per_payment,
        prove_seconds: of_kind("settle").map(|transaction| transaction.prove_seconds).sum(),
        register_gas: of_kind("register").map(|transaction| transaction.gas_used).sum(),
        node_cpu_seconds: totals.node_cpu_seconds,
        build: crate::BUILD,
        durability: "RocksDB log and acknowledged head synced before each ack",
        total_seconds: totals.total_seconds,
        checks,
    }
}

/// Processor seconds that a node has used.
fn cpu_seconds(node: &NodeProcess) -> f64 {
    Usage::of(node.pid()).unwrap_or_default().cpu_seconds
}

/// Cuts the open epoch and waits until every epoch is sealed; the last one's number.
async fn seal(admin: &Admin) -> anyhow::Result<u64> {
    let cut = admin.cut_epoch().await?.epoch.context("there is an open epoch with frames")?;
    wait_for("the epochs to be sealed", async || Ok(admin.status().await?.unanchored_epochs.iter().all(|epoch| epoch.root.is_some())))
        .await?;
    Ok(cut)
}

/// Pays the provider's credit out; anyone may ask for that.
async fn withdraw_provider(dev: &Dev) -> anyhow::Result<u128> {
    let payer = Payer::new(dev.ledger.clone(), dev.buyer.clone());
    Ok(payer.withdraw(dev.info().provider).await?.base_units)
}

/// Tops a channel up, closes it, and withdraws the refund. Returns the base units paid back, and whether paid and refunded are what was
/// deposited.
async fn close(dev: &Dev, admin: &Admin, channel: ChannelId) -> anyhow::Result<(u128, bool)> {
    let payer = Payer::new(dev.ledger.clone(), dev.buyer.clone());
    let (deposit, _) = payer.top_up(channel, TOP_UP_BASE_UNITS).await?;
    payer.request_close(channel).await?;
    let view = async || -> anyhow::Result<_> {
        let channels = admin.channels().await?;
        channels.into_iter().find(|view| view.channel == channel).context("the channel is known")
    };
    wait_for("the node to see the close", async || Ok(view().await?.status == "closing")).await?;
    admin.settle_run().await?;
    let closed = view().await?;
    ensure!(closed.status == "closed", "the channel is {} after its close was served", closed.status);
    let before = payer.balance().await?;
    let withdrawal = payer.withdraw(payer.account()).await?;
    let (whole, _) = dev.ledger.config().unit.base_units_down(closed.refunded)?;
    let exact = closed.settled.checked_add(closed.refunded)? == deposit
        && withdrawal.base_units == whole
        && payer.balance().await? - before == whole;
    Ok((withdrawal.base_units, exact))
}

/// Proves a payment of the channel against the root on the chain; whether it holds, and whether it still does when its amount is changed.
async fn prove_inclusion(dev: &Dev, admin: &Admin, channel: ChannelId, epoch: u64) -> anyhow::Result<(bool, bool)> {
    let line = admin.channels().await?.iter().find(|view| view.channel == channel).map_or(0, |view| view.lines / 2);
    let mut proof = admin.line_proof(channel, line).await?;
    ensure!(proof.epoch <= epoch, "the payment is in epoch {}, after the last that was cut", proof.epoch);
    let root: Option<Hash256> = dev.ledger.epoch_root(EpochId::new(proof.epoch)).await?;
    let root = root.context("the epoch is anchored")?;
    let included = proof.verify(&root).is_ok();
    proof.line.amount = proof.line.amount.checked_add(Amount::from_nanos(1))?;
    Ok((included, proof.verify(&root).is_ok()))
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await? {
        ensure!(Instant::now() < deadline, "waited {} seconds for {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
