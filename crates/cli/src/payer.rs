//! The payer's side: the durable state, the connection to the provider's node, and what their errors mean at a prompt.

use std::time::Duration;

use millstream_client::{
    BackoffOptions, ChannelError, ChannelHandle, Client, ClientError, ClientOptions, NodeAddress, Observer, PayError, PayOptions,
    ServerTrust, StateDb, StateError, TransportOptions,
};
use millstream_transport::ConnectError;
use millstream_types::{Amount, ChannelId};
use millstream_voucher::SecretKey;
use millstream_wire::Retry;

use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::profile::Profile;

/// The longest pause between attempts to reach the node again: somebody waits.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often the node is asked whether it counts a deposit.
const DEPOSIT_POLL: Duration = Duration::from_millis(250);

/// What to do about a deposit that is used up.
const TOP_UP_HINT: &str = "raise the deposit with `millstream channel topup`; one that was just raised counts when it is confirmed";

/// Opens the payer's durable state; makes it when it is not there.
///
/// # Errors
/// The profile does not name it, or it cannot be used.
pub fn open_state(profile: &Profile) -> CliResult<StateDb> {
    let file = profile.payer_state_file()?;
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| CliError::failed("state", format!("cannot create {}: {error}", directory.display())))?;
    }
    Ok(StateDb::open(&file)?)
}

/// Connects to the profile's node, and goes on connecting whenever the connection breaks.
///
/// # Errors
/// The profile does not name the node, or the node cannot be reached or is not the one that is trusted.
pub async fn connect(profile: &Profile, state: StateDb, observer: Option<Observer>) -> CliResult<Client> {
    let (host, port) = host_and_port(profile.node_address()?)?;
    let is_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let mut options = ClientOptions::new(NodeAddress { host, port }, trust(profile)?);
    options.backoff = BackoffOptions { longest: PAUSE_MAX, ..BackoffOptions::default() };
    if is_loopback {
        options.transport = TransportOptions::loopback();
    }
    Ok(match observer {
        Some(observer) => Client::connect_observed(state, options, observer).await?,
        None => Client::connect(state, options).await?,
    })
}

/// Attaches a channel of the state, with its key when that is not stored, and waits until the node has confirmed it, but no longer than
/// `wait`.
///
/// # Errors
/// The node refuses the channel, or does not know it in time.
pub async fn attach(
    client: &Client,
    channel: ChannelId,
    key: Option<SecretKey>,
    options: PayOptions,
    wait: Duration,
) -> CliResult<ChannelHandle> {
    let attaching = async {
        match key {
            Some(key) => client.channel_with_key(channel, key, options).await,
            None => client.channel(channel, options).await,
        }
    };
    match tokio::time::timeout(wait, attaching).await {
        Ok(attached) => Ok(attached?),
        Err(_) => Err(CliError::unavailable(
            "channel_not_confirmed",
            format!("the node did not take channel {channel} within {} seconds", wait.as_secs()),
        )
        .hint("its opening may need more confirmations, or the node does not follow this ledger; try again later")),
    }
}

/// Waits until the node counts a deposit of at least `needed` on a channel, as after a top-up, but no longer than `wait`.
///
/// # Errors
/// The node refuses the channel, or does not see the deposit in time.
pub async fn await_deposit(handle: &ChannelHandle, needed: Amount, wait: Duration) -> CliResult<()> {
    let counts = async {
        let mut deposit = handle.position().deposit;
        while deposit < needed {
            tokio::time::sleep(DEPOSIT_POLL).await;
            deposit = handle.refresh().await?.deposit;
        }
        CliResult::Ok(())
    };
    tokio::time::timeout(wait, counts).await.unwrap_or_else(|_| {
        let (channel, seconds) = (handle.id(), wait.as_secs());
        let message = format!("the node did not count a deposit of {} on channel {channel} within {seconds} seconds", needed.to_tokens());
        Err(CliError::unavailable("deposit_not_confirmed", message).hint("the top-up may need more confirmations; try again later"))
    })
}

/// How the profile's node is known: by its pinned certificate, or else by the system's roots.
pub(crate) fn trust(profile: &Profile) -> CliResult<ServerTrust> {
    match profile.node_certificate() {
        Some(fingerprint) => Ok(ServerTrust::Pinned(fingerprint)),
        None => ServerTrust::from_system_roots().map_err(|error| {
            CliError::usage("node_not_trusted", chain_of(&error))
                .hint("pin the node's certificate with node.certificate_sha256 in the profile")
        }),
    }
}

/// `host:port`, where the host may be an IPv6 address in brackets.
pub(crate) fn host_and_port(address: &str) -> CliResult<(String, u16)> {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) =
        parsed.ok_or_else(|| CliError::usage("profile_invalid", format!("node.address is {address}, expected host:port")))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let message = chain_of(&error);
        match error {
            StateError::InUse { .. } => Self::unavailable("state_in_use", message).hint("wait until the other command has ended"),
            StateError::ChannelInUse { .. } => Self::unavailable("channel_in_use", message),
            StateError::UnknownChannel { .. } => Self::usage("channel_unknown", message).hint("see `millstream channel list`"),
            StateError::KeyNeeded { .. } | StateError::WrongKey { .. } => Self::usage("channel_key", message),
            StateError::Damaged { .. } => Self::check_failed("state_damaged", message).hint("keep the file: it holds what was signed"),
            StateError::File { .. } | StateError::Storage(_) | StateError::Schema { .. } | StateError::Closed => {
                Self::failed("state", message)
            }
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let message = chain_of(&error);
        match error {
            ClientError::Lookup { .. } | ClientError::NoAddress { .. } => {
                Self::unavailable("node_unreachable", message).hint("check node.address in the profile")
            }
            ClientError::Connect(ConnectError::FingerprintMismatch { .. } | ConnectError::Untrusted { .. }) => {
                Self::refused("node_not_trusted", message)
            }
            ClientError::Connect(_) => Self::unavailable("node_unreachable", message)
                .hint("is the node running? check node.address and node.certificate_sha256 in the profile"),
            ClientError::Endpoint(_) => Self::failed("socket", message),
            ClientError::State(error) => error.into(),
            ClientError::Channel(error) => error.into(),
            ClientError::Setting { .. } => Self::usage("setting", message),
        }
    }
}

impl From<ChannelError> for CliError {
    fn from(error: ChannelError) -> Self {
        let message = chain_of(&error);
        match error {
            ChannelError::Rejected { code, .. } => {
                let (exit, hint) = match code.retry() {
                    Retry::No => (Exit::Refused, None),
                    Retry::AfterTopUp => (Exit::Refused, Some(TOP_UP_HINT)),
                    Retry::Later => (Exit::Unavailable, Some("try again later")),
                };
                let failed = Self::new(exit, code.name(), message);
                match hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            }
            ChannelError::NodeForgot { .. }
            | ChannelError::AckAboveSent { .. }
            | ChannelError::AckMismatch { .. }
            | ChannelError::AckBackwards { .. }
            | ChannelError::ForeignVoucher(_)
            | ChannelError::Forked { .. }
            | ChannelError::WrongChannel => Self::check_failed("node_contradicts", message)
                .hint("keep the state file: it holds what was signed, and take it up with the provider"),
            ChannelError::Protocol(_) => Self::failed("node_protocol", message),
            ChannelError::State(error) => error.into(),
            ChannelError::Sign(_) | ChannelError::Encode(_) | ChannelError::Closed => Self::failed("channel", message),
        }
    }
}

impl From<PayError> for CliError {
    fn from(error: PayError) -> Self {
        let message = chain_of(&error);
        match error {
            PayError::DepositExceeded { .. } => Self::refused("deposit_exceeded", message).hint(TOP_UP_HINT),
            PayError::SpendLimit { .. } => Self::refused("spend_limit", message),
            PayError::ZeroAmount { .. } | PayError::Amount { .. } | PayError::TooManyLines { .. } => Self::usage("line", message),
            PayError::Stopped(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::CumulativeAmount;
    use millstream_wire::ErrorCode;

    use super::*;

    #[test]
    fn what_the_node_rejects_keeps_its_name_and_its_kind() {
        let check = |code: ErrorCode, exit: Exit| {
            let error = CliError::from(ChannelError::Rejected { code, lines_total: 3 });
            assert_eq!((error.exit, error.code.as_str()), (exit, code.name()));
        };
        check(ErrorCode::WrongLedger, Exit::Refused);
        check(ErrorCode::DepositExceeded, Exit::Refused);
        check(ErrorCode::Overloaded, Exit::Unavailable);
    }

    #[test]
    fn a_deposit_that_is_used_up_asks_for_a_top_up() {
        let total = CumulativeAmount::from_nanos(1);
        let error = CliError::from(PayError::DepositExceeded { needed: total, deposit: total });
        assert_eq!((error.exit, error.code.as_str()), (Exit::Refused, "deposit_exceeded"));
        assert!(error.hint.expect("a hint").contains("topup"));
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(host_and_port("[::1]:4433"), Ok(("::1".to_owned(), 4_433)));
        assert_eq!(host_and_port("node.example:1"), Ok(("node.example".to_owned(), 1)));
        assert!(host_and_port("node.example").is_err());
    }
}
