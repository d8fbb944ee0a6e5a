//! `millstream gateway status|claim|release`: what the operator asks of a running gateway.

use millstream_types::{Address, Amount, EscrowChannelId, Hash256};
use serde::{Deserialize, Serialize};

use super::args::{AskArgs, ClaimArgs, ReleaseArgs};
use super::settings::ADMIN_LISTEN;
use crate::admin::Admin;
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::output::{View, columns};

/// `GET /escrow/status`. Amounts are base units of the escrow's token, here and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowStatus {
    /// Figures over all channels, for each contract.
    pub escrows: Vec<EscrowSums>,
    /// Claims under way, the oldest first.
    pub claims: Vec<ClaimUnderWay>,
    /// What was claimed for each receiver and paid to it.
    pub sweeps: Vec<SweepState>,
    /// Channels that cannot be claimed on, the first thousand.
    pub quarantine: Vec<Quarantined>,
}

/// What the channels on one contract come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowSums {
    /// Its number here.
    pub escrow: u32,
    /// `x402` or `mpp`.
    pub protocol: String,
    /// The token.
    pub token: Address,
    /// Who is paid.
    pub receiver: Address,
    /// Channels known.
    pub channels: u64,
    /// Those that take payments.
    pub open: u64,
    /// Those whose payers are leaving.
    pub leaving: u64,
    /// Those that the chain took back what they rely on of.
    pub frozen: u64,
    /// Those in quarantine.
    pub quarantined: u64,
    /// Confirmed deposits.
    pub deposit: Amount,
    /// Signed for.
    pub accepted: Amount,
    /// Captured.
    pub charged: Amount,
    /// Held for deliveries under way.
    pub reserved: Amount,
    /// Taken on the chain.
    pub claimed: Amount,
    /// Charged and not claimed.
    pub unclaimed: Amount,
}

/// A claim under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimUnderWay {
    /// Its number.
    pub claim: u64,
    /// The escrow.
    pub escrow: u32,
    /// When it was written down.
    pub submitted_at_millis: u64,
    /// `sent` or `landed`.
    pub stage: String,
    /// The newest version of its transaction.
    pub transaction: Option<Hash256>,
    /// Channels in it that the chain has not confirmed.
    pub rows: u64,
    /// How many versions were sent.
    pub versions: u64,
}

/// What was claimed for a receiver and paid to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepState {
    /// The escrow.
    pub escrow: u32,
    /// Who is paid.
    pub receiver: Address,
    /// Claimed for it.
    pub claimed: Amount,
    /// Paid to it.
    pub swept: Amount,
    /// What would be paid now.
    pub due: Amount,
    /// The transaction under way.
    pub transaction: Option<Hash256>,
    /// Why the last one failed.
    pub failure: Option<String>,
}

/// A channel in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who pays.
    pub payer: Address,
    /// The contract's reason.
    pub reason: String,
    /// Charged and not claimed.
    pub unclaimed: Amount,
}

/// `GET /escrow/claim`: what there is to claim now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimable {
    /// Channels with something to claim, the first thousand of each contract.
    pub claimable: Vec<ClaimableChannel>,
    /// What they would bring.
    pub total: Amount,
    /// Claims under way.
    pub claims: Vec<ClaimUnderWay>,
    /// What was claimed and paid.
    pub sweeps: Vec<SweepState>,
}

/// A channel with something to claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimableChannel {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// What will have been claimed.
    pub total: Amount,
    /// What of it is new.
    pub gain: Amount,
    /// When the payer can take it away, by the chain's time, if it is leaving.
    pub deadline_millis: Option<u64>,
}

/// `POST /escrow/claim`: what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Claims.
    pub claims: Vec<u64>,
    /// Channels in them.
    pub rows: u64,
    /// Channels that went into quarantine.
    pub quarantined: Vec<EscrowChannelId>,
    /// Payments to receivers.
    pub sweeps: u64,
}

/// `POST /escrow/release/CHANNEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Released {
    released: EscrowChannelId,
}

pub(super) async fn status(context: &Context, args: &AskArgs) -> CliResult<()> {
    context.output.show(&admin(context, args)?.escrow_status().await?)
}

pub(super) async fn claim(context: &Context, args: &ClaimArgs) -> CliResult<()> {
    let admin = admin(context, &args.ask)?;
    if args.now { context.output.show(&admin.escrow_claim().await?) } else { context.output.show(&admin.escrow_claimable().await?) }
}

pub(super) async fn release(context: &Context, args: &ReleaseArgs) -> CliResult<()> {
    admin(context, &args.ask)?.escrow_release(args.channel).await?;
    context.output.show(&Released { released: args.channel })
}

/// The admin listener: named, else the profile's, else where it is when nothing says so.
pub(crate) fn admin(context: &Context, args: &AskArgs) -> CliResult<Admin> {
    if let Some(url) = &args.admin {
        return context::admin_named("--admin", url);
    }
    // Without a profile there is the usual place.
    match context.profile_if_any()?.and_then(|profile| profile.gateway.admin_url) {
        Some(url) => Admin::new(&url),
        None => Admin::new(&format!("http://{ADMIN_LISTEN}")),
    }
}

impl View for EscrowStatus {
    fn table(&self) -> String {
        let sums = self.escrows.iter().map(|escrow| {
            vec![
                escrow.protocol.clone(),
                format!("{} ({} open, {} leaving, {} frozen)", escrow.channels, escrow.open, escrow.leaving, escrow.frozen),
                escrow.deposit.to_string(),
                escrow.charged.to_string(),
                escrow.reserved.to_string(),
                escrow.claimed.to_string(),
                escrow.unclaimed.to_string(),
            ]
        });
        let header = ["contract", "channels", "deposits", "charged", "reserved", "claimed", "unclaimed"];
        let mut parts = vec![columns(&header, &[2, 3, 4, 5, 6], sums)];
        parts.extend(sweeps_table(&self.sweeps));
        parts.extend(claims_table(&self.claims));
        if !self.quarantine.is_empty() {
            let rows = self
                .quarantine
                .iter()
                .map(|channel| vec![channel.channel.to_string(), channel.unclaimed.to_string(), channel.reason.clone()]);
            parts.push(columns(&["quarantine", "unclaimed", "reason"], &[1], rows));
        }
        parts.join("\n\n")
    }
}

impl View for Claimable {
    fn table(&self) -> String {
        if self.claimable.is_empty() && self.claims.is_empty() {
            let due = sweeps_table(&self.sweeps);
            return ["nothing to claim".to_owned()].into_iter().chain(due).collect::<Vec<_>>().join("\n\n");
        }
        let rows = self.claimable.iter().map(|row| {
            let leaves = row.deadline_millis.map_or_else(String::new, |millis| format!("until {} s", millis / 1_000));
            vec![row.channel.to_string(), row.payer.to_string(), row.gain.to_string(), leaves]
        });
        let mut parts = vec![columns(&["channel", "payer", "gain", "leaving"], &[2], rows)];
        parts.extend(sweeps_table(&self.sweeps));
        parts.extend(claims_table(&self.claims));
        parts.push(format!("{} to claim from {} channels; --now claims it", self.total, self.claimable.len()));
        parts.join("\n\n")
    }
}

impl View for Claimed {
    fn table(&self) -> String {
        let quarantined = match self.quarantined.len() {
            0 => String::new(),
            count => format!("; {count} went into quarantine"),
        };
        match (self.claims.len(), self.sweeps) {
            (0, 0) => format!("nothing to claim{quarantined}"),
            (claims, sweeps) => {
                let sent = format!("sent {claims} claims from {} channels, and {sweeps} payments to receivers", self.rows);
                format!("{sent}{quarantined}\n`millstream gateway status` shows when they are confirmed")
            }
        }
    }
}

impl View for Released {
    fn table(&self) -> String {
        format!("channel {} is claimed from again", self.released)
    }
}

fn claims_table(claims: &[ClaimUnderWay]) -> Option<String> {
    let rows = claims.iter().map(|claim| {
        let transaction = claim.transaction.map_or_else(|| "-".to_owned(), |hash| hash.to_string());
        vec![claim.claim.to_string(), claim.rows.to_string(), claim.stage.clone(), transaction]
    });
    (!claims.is_empty()).then(|| columns(&["claim", "channels", "stage", "transaction"], &[0, 1], rows))
}

fn sweeps_table(sweeps: &[SweepState]) -> Option<String> {
    let rows = sweeps.iter().map(|sweep| {
        let under_way = sweep.transaction.map(|hash| hash.to_string()).or_else(|| sweep.failure.clone());
        vec![
            sweep.receiver.to_string(),
            sweep.claimed.to_string(),
            sweep.swept.to_string(),
            sweep.due.to_string(),
            under_way.unwrap_or_default(),
        ]
    });
    (!sweeps.is_empty()).then(|| columns(&["receiver", "claimed", "paid out", "due", "under way"], &[1, 2, 3], rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn the_status_is_as_it_was() {
        let answer = include_str!("../../tests/snapshots/gateway_status.json");
        let status: EscrowStatus = serde_json::from_str(answer).expect("the documented answer");
        assert_eq!(render(&status, Format::Json).expect("text"), answer.trim_end());
        assert_eq!(status.table(), include_str!("../../tests/snapshots/gateway_status.txt").trim_end());
    }

    #[test]
    fn a_claim_says_what_it_would_do_or_did() {
        let nothing = Claimable { claimable: vec![], total: Amount::ZERO, claims: vec![], sweeps: vec![] };
        assert_eq!(nothing.table(), "nothing to claim");
        let row = ClaimableChannel {
            channel: EscrowChannelId::from_bytes([1; 32]),
            payer: Address::from_bytes([2; 20]),
            receiver: Address::from_bytes([3; 20]),
            total: Amount::from_units(7),
            gain: Amount::from_units(5),
            deadline_millis: Some(9_000),
        };
        let some = Claimable { claimable: vec![row], total: Amount::from_units(5), ..nothing };
        assert!(some.table().ends_with("5 to claim from 1 channels; --now claims it"), "{}", some.table());
        assert!(some.table().contains("until 9 s"));
        let claimed = Claimed { claims: vec![4], rows: 3, quarantined: vec![EscrowChannelId::from_bytes([1; 32])], sweeps: 1 };
        assert!(claimed.table().starts_with("sent 1 claims from 3 channels, and 1 payments to receivers; 1 went into quarantine"));
        let none = Claimed { claims: vec![], rows: 0, quarantined: vec![], sweeps: 0 };
        assert_eq!(none.table(), "nothing to claim");
    }
}
