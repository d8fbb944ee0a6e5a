//! Deposits without coins for gas: the node submits what the payer signed (spec W-9 to W-12).
//!
//! The request is the same bytes each time, so a lost connection costs nothing: asked again, the node tells what became of it.

use std::time::Duration;

use millstream_chain::{DepositPurpose, RelayedDeposit, Revert, SignedDeposit};
use millstream_transport::{ChannelStream, CloseCode, Connection, StreamError};
use millstream_types::{Amount, BlockNumber, ChannelId, Hash256, LedgerId};
use millstream_voucher::ChannelTerms;
use millstream_wire::{
    DecodeError, EncodeError, ErrorCode, NodeMessage, PayerMessage, Refused, Relay, RelayPurpose, RelayStage, RelayWay, Relayed,
};
use tokio::time::sleep;

use crate::Client;
use crate::backoff::Backoff;

/// Why a deposit is not relayed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RelayError {
    /// The node does not relay it, or its transaction reverted.
    #[error("the node does not relay the deposit: {code} (see docs/errors/{}-{}.md){}", code.number(), code.name(), because(revert.as_deref()))]
    Refused {
        /// Why.
        code: ErrorCode,
        /// When the same deposit may succeed, where the node knows.
        retry_after: Option<Duration>,
        /// The node's limit, in the unit that the code's page names; `None` where there is none to tell.
        bound: Option<u64>,
        /// The transaction that reverted; `None` when nothing was sent.
        transaction: Option<Hash256>,
        /// The contract's reason.
        revert: Option<Box<Revert>>,
    },
    /// The node gave the stream up.
    #[error("the node closed the stream: {code} (see docs/errors/{}-{}.md)", code.number(), code.name())]
    Closed {
        /// Why.
        code: ErrorCode,
    },
    /// The node tells of another channel.
    #[error("the node relays a deposit of channel {actual}, asked was {expected}")]
    AnotherChannel {
        /// The one that was asked for.
        expected: ChannelId,
        /// The one that it tells of.
        actual: ChannelId,
    },
    /// What the node sends is no message, or none for here.
    #[error("the node does not keep to the protocol")]
    Protocol(#[source] DecodeError),
    /// The deposit cannot be written, such as for its signature's length.
    #[error("the deposit cannot be written")]
    Encode(#[source] EncodeError),
    /// The client was closed.
    #[error("the client was closed here")]
    ClientClosed,
}

/// A deposit that was relayed and that the node counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmedDeposit {
    /// The channel.
    pub channel: ChannelId,
    /// Its whole deposit, in nanos, as the node has it. Ask the ledger.
    pub deposit: Amount,
    /// The transaction.
    pub transaction: Hash256,
    /// Its block.
    pub block: BlockNumber,
}

/// How one stream ended without an answer that is final.
enum End {
    /// Ask again, on this connection or the next.
    Again,
    Final(RelayError),
}

impl RelayError {
    /// Whether the same deposit may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { code, .. } | Self::Closed { code } => code.is_retryable(),
            Self::AnotherChannel { .. } | Self::Protocol(_) | Self::Encode(_) | Self::ClientClosed => false,
        }
    }
}

impl Client {
    /// Asks the node to submit a deposit and to pay the gas, and waits until it is confirmed: then the channel can be attached, or refreshed.
    /// `told` hears of each stage. It waits through lost connections, asking again with the same bytes; dropped, the node goes on all the same.
    /// There is no deadline: bound it where that is too long.
    ///
    /// # Errors
    /// [`RelayError`]. After one that is retryable the same deposit may be asked for again: it cannot be made twice.
    pub async fn relay(
        &self,
        ledger: LedgerId,
        deposit: &RelayedDeposit,
        mut told: impl FnMut(RelayStage) + Send,
    ) -> Result<ConfirmedDeposit, RelayError> {
        let relay = request_of(ledger, deposit);
        let channel = match &deposit.purpose {
            DepositPurpose::Open(request) => ChannelTerms { ledger, payer: deposit.funder, key_x: request.key.x, salt: request.salt }.uid(),
            DepositPurpose::TopUp { channel, .. } => *channel,
        };
        // What cannot be written is not asked again and again.
        relay.to_bytes().map_err(RelayError::Encode)?;
        let message = PayerMessage::Relay(Box::new(relay));
        let mut backoff = Backoff::new(self.backoff());
        let mut connections = self.connection_watch();
        loop {
            let connection = match connections.wait_for(Option::is_some).await {
                Ok(connection) => connection.clone(),
                Err(_) => return Err(RelayError::ClientClosed),
            };
            if let Some(connection) = connection {
                match ask(&connection, &message, channel, &mut told, &mut backoff).await {
                    Ok(confirmed) => return Ok(confirmed),
                    Err(End::Final(error)) => return Err(error),
                    Err(End::Again) => {}
                }
            }
            sleep(backoff.next()).await;
        }
    }
}

async fn ask(
    connection: &Connection,
    message: &PayerMessage,
    channel: ChannelId,
    told: &mut (impl FnMut(RelayStage) + Send),
    backoff: &mut Backoff,
) -> Result<ConfirmedDeposit, End> {
    let mut stream = connection.open_channel().await.map_err(end_of)?;
    stream.writer.queue_payer(message).map_err(end_of)?;
    stream.writer.flush().await.map_err(end_of)?;
    stream.writer.finish();
    loop {
        let answer = stream.reader.next().await.map_err(end_of)?.ok_or(End::Again)?;
        match hear(&answer, channel) {
            Ok(stage) => {
                backoff.reset();
                told(stage);
                if let RelayStage::Confirmed { transaction, block, deposit } = stage {
                    return Ok(ConfirmedDeposit { channel, deposit, transaction, block });
                }
            }
            Err(error) => {
                close(&mut stream, &error);
                return Err(if matches!(error, RelayError::Refused { code: ErrorCode::ShuttingDown, .. }) {
                    End::Again
                } else {
                    End::Final(error)
                });
            }
        }
    }
}

fn hear(answer: &[u8], channel: ChannelId) -> Result<RelayStage, RelayError> {
    match NodeMessage::decode(answer).map_err(RelayError::Protocol)? {
        NodeMessage::Relayed(Relayed { channel: actual, stage }) if actual == channel => Ok(stage),
        NodeMessage::Relayed(Relayed { channel: actual, .. }) => Err(RelayError::AnotherChannel { expected: channel, actual }),
        NodeMessage::Refused(refused) => Err(refusal(*refused)),
        // A node that knows no relays answers as to a frame.
        NodeMessage::Reject(reject) => Err(refusal(Refused::new(reject.code))),
        other @ (NodeMessage::Snapshot(_) | NodeMessage::Ack(_)) => {
            Err(RelayError::Protocol(DecodeError::Misplaced { kind: other.kind() }))
        }
    }
}

fn close(stream: &mut ChannelStream, error: &RelayError) {
    if let RelayError::Protocol(fault) = error {
        stream.reader.stop(fault.code());
    }
}

fn refusal(refused: Refused) -> RelayError {
    let Refused { code, retry_after_secs, bound, transaction, revert } = refused;
    RelayError::Refused {
        code,
        retry_after: (retry_after_secs > 0).then(|| Duration::from_secs(retry_after_secs.into())),
        bound: (bound > 0).then_some(bound),
        transaction: (*transaction.as_bytes() != [0; 32]).then_some(transaction),
        revert: (!revert.is_empty()).then(|| Box::new(Revert::decode(&revert))),
    }
}

/// A reason may be a stranger's text: it is shown without its control characters.
fn because(revert: Option<&Revert>) -> String {
    revert.map_or_else(String::new, |revert| {
        let reason: String = revert.to_string().chars().filter(|letter| !letter.is_control()).collect();
        format!(": {reason}")
    })
}

fn request_of(ledger: LedgerId, deposit: &RelayedDeposit) -> Relay {
    let purpose = match deposit.purpose {
        DepositPurpose::Open(request) => {
            RelayPurpose::Open { key_x: request.key.x, key_qx: request.key.qx, key_qy: request.key.qy, salt: request.salt }
        }
        DepositPurpose::TopUp { channel, salt, .. } => RelayPurpose::TopUp { channel, salt },
    };
    let (way, signature) = match &deposit.signed {
        SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature } => {
            (RelayWay::Authorization { valid_after_secs: *valid_after_secs, valid_before_secs: *valid_before_secs }, signature)
        }
        SignedDeposit::Permit { deadline_secs, permit, consent } => {
            (RelayWay::Permit { deadline_secs: *deadline_secs, permit: *permit }, consent)
        }
        SignedDeposit::Permit2 { nonce, deadline_secs, signature } => {
            (RelayWay::Permit2 { nonce: *nonce, deadline_secs: *deadline_secs }, signature)
        }
    };
    let base_units = Amount::from_units(deposit.purpose.base_units());
    Relay { ledger, funder: deposit.funder, base_units, purpose, way, signature: signature.clone() }
}

/// What the end of a stream means.
fn end_of(error: StreamError) -> End {
    match error {
        StreamError::ClosedByPeer { code: CloseCode::Error(code) } if !code.is_retryable() => End::Final(RelayError::Closed { code }),
        StreamError::Message(error) => End::Final(RelayError::Protocol(error)),
        StreamError::Encode(error) => End::Final(RelayError::Encode(error)),
        StreamError::TooManyStreams => End::Final(RelayError::Closed { code: ErrorCode::TooManyChannels }),
        StreamError::ClosedByPeer { .. } | StreamError::Lost(_) | StreamError::ClosedHere | StreamError::Truncated { .. } => End::Again,
    }
}
