//! One channel's stream: decode, verify, hand to the core, and write what the core releases.
//!
//! Frames that arrived together go together: one call of the checker, one command to the core, one answer. Signatures and lines are hashed and checked on the
//! runtime's workers, so that the core only compares and stores. Nothing is answered from here but what the core released after its sync, and
//! what needs no state: messages that do not parse, and frames for a channel that is not attached.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{Answer, ChannelStatus, FrameInput, Rejection, ReplyId, Snapshot};
use millstream_transport::{ChannelStream, MessageReader, MessageWriter, StreamError};
use millstream_types::{BillHead, CumulativeAmount, LedgerId};
use millstream_voucher::{CheckingKey, PublicKey};
use millstream_wire::{Ack, Attach, DecodeError, ErrorCode, FrameMessage, Kind, Limits, NodeMessage, PayerMessage, Reject, Relay};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::core::{Core, Release, Stopped, stopped};
use crate::follower::ChainView;
use crate::metrics::Metrics;
use crate::relay::Relays;
use crate::verify::Verifier;

/// Lines that a session hashes before it lets others have its worker: some 0.1 ms with lanes.
const GROUP_LINES_MAX: usize = 2_048;

/// What every session needs.
pub(crate) struct Shared {
    pub(crate) core: Core,
    pub(crate) verifier: Verifier,
    pub(crate) ledger: LedgerId,
    pub(crate) limits: Limits,
    pub(crate) channels_per_connection_max: u32,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) view: Arc<ChainView>,
    pub(crate) relays: Arc<Relays>,
    /// Turns true when the node stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Why a session ended before its payer ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the stream failed")]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The channel of a stream: its last known state, and the key that its frames are checked with.
struct Attached {
    key: Arc<CheckingKey>,
    snapshot: Box<Snapshot>,
}

/// A payer's stream.
pub(crate) struct Session {
    shared: Arc<Shared>,
    /// Where the payer is.
    from: IpAddr,
    /// A request to relay a deposit, which was the first message: then the stream is for nothing else.
    relay: Option<Box<Relay>>,
    is_new: bool,
    reader: MessageReader,
    writer: MessageWriter,
    attached: Option<Attached>,
    answers: mpsc::UnboundedReceiver<Box<Release>>,
    reply: mpsc::UnboundedSender<Box<Release>>,
    /// Frames that the core has and has not answered.
    in_flight: u16,
    /// Acks are cumulative: of several of one epoch, only the last is written.
    unwritten_ack: Option<Ack>,
}

impl Session {
    /// A session on a stream that a payer has opened.
    pub(crate) fn new(shared: Arc<Shared>, stream: ChannelStream, from: IpAddr) -> Self {
        let ChannelStream { reader, writer } = stream;
        let (reply, answers) = mpsc::unbounded_channel();
        let (relay, is_new) = (None, true);
        Self { shared, from, relay, is_new, reader, writer, attached: None, answers, reply, in_flight: 0, unwritten_ack: None }
    }

    /// Serves the stream until its payer ends it, the connection is lost or the node stops.
    pub(crate) async fn run(mut self) -> Result<(), SessionError> {
        match self.serve().await {
            // What is in flight may be durable already: tell the payer before leaving.
            Ok(()) => self.drain().await,
            Err(SessionError::Stream(StreamError::Message(error))) => {
                // The reader has stopped the stream with this code (W-2).
                self.shared.metrics.closed_streams.inc();
                self.writer.reset(error.code());
                Err(SessionError::Stream(StreamError::Message(error)))
            }
            Err(error) => {
                self.writer.reset(ErrorCode::ShuttingDown);
                Err(error)
            }
        }
    }

    async fn serve(&mut self) -> Result<(), SessionError> {
        let mut stopping = self.shared.stopping.clone();
        loop {
            let window_is_open = self.in_flight < self.shared.limits.frames_in_flight_max;
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => return Ok(()),
                Some(mut release) = self.answers.recv() => {
                    self.release(&mut release)?;
                    self.release_ready()?;
                    self.flush().await?;
                }
                message = self.reader.next(), if window_is_open => match message? {
                    Some(message) => self.messages(message).await?,
                    None => return Ok(()),
                },
            }
            if let Some(relay) = self.relay.take() {
                // Apart: a session is small, and there are many.
                let relays = Arc::clone(&self.shared.relays);
                return Ok(Box::pin(relays.serve(*relay, self.from, &mut self.writer, stopping)).await?);
            }
        }
    }

    async fn drain(&mut self) -> Result<(), SessionError> {
        // Without a sender of its own the session sees when the core is gone.
        (self.reply, _) = mpsc::unbounded_channel();
        while self.in_flight > 0 {
            let mut release = self.answers.recv().await.ok_or(Stopped)?;
            self.release(&mut release)?;
        }
        self.flush().await?;
        self.writer.finish();
        Ok(())
    }

    /// Handles a message and all that came whole with it: frames in groups, everything in order.
    async fn messages(&mut self, first: Bytes) -> Result<(), SessionError> {
        let window = usize::from(self.shared.limits.frames_in_flight_max.saturating_sub(self.in_flight));
        let (mut frames, mut lines) = (Vec::new(), 0);
        let mut next = Ok(Some(first));
        while let Ok(Some(message)) = next {
            match PayerMessage::decode(message) {
                Ok(PayerMessage::Frame(frame)) => {
                    lines += usize::from(frame.count());
                    frames.push(frame);
                    let group_is_full = frames.len() >= window || lines >= GROUP_LINES_MAX;
                    next = if group_is_full { Ok(None) } else { self.reader.take() };
                }
                Ok(PayerMessage::Attach(attach)) => {
                    self.frames(core::mem::take(&mut frames)).await?;
                    self.attach(attach).await?;
                    next = Ok(None);
                }
                Ok(PayerMessage::Relay(relay)) if self.is_new && frames.is_empty() => {
                    self.relay = Some(relay);
                    next = Ok(None);
                }
                Ok(PayerMessage::Relay(_)) => {
                    self.frames(core::mem::take(&mut frames)).await?;
                    self.malformed(DecodeError::Misplaced { kind: Kind::Relay }).await?;
                    next = Ok(None);
                }
                Err(error) => {
                    self.frames(core::mem::take(&mut frames)).await?;
                    self.malformed(error).await?;
                    next = Ok(None);
                }
            }
        }
        self.is_new = false;
        self.frames(frames).await?;
        next.map(drop).map_err(SessionError::Stream)
    }

    async fn malformed(&mut self, error: DecodeError) -> Result<(), SessionError> {
        if error.code().closes_stream() {
            self.reader.stop(error.code());
            return Err(SessionError::Stream(StreamError::Message(error)));
        }
        self.reject(error.code(), 0).await
    }

    async fn attach(&mut self, attach: Attach) -> Result<(), SessionError> {
        if attach.ledger.chain != self.shared.ledger.chain {
            return self.reject(ErrorCode::WrongChain, 0).await;
        }
        if attach.ledger.contract != self.shared.ledger.contract {
            return self.reject(ErrorCode::WrongLedger, 0).await;
        }
        let answer = self.shared.core.attach(attach.channel()).await?;
        // Frames sent before this attach were judged before it, and their answers go first.
        self.release_ready()?;
        let Answer::Snapshot(snapshot) = answer else {
            return self.reject(ErrorCode::UnknownChannel, 0).await;
        };
        // The ledger checked the key when the channel opened, so a key that does not parse holds no signature either.
        let key = PublicKey::from_x(&snapshot.key_x).ok().filter(|key| attach.voucher.verify(key).is_ok());
        let Some(key) = key else {
            return self.reject(ErrorCode::BadSignature, 0).await;
        };
        // A payer that attaches again to see its snapshot has the same key.
        let known = self.attached.take().filter(|before| before.snapshot.channel == snapshot.channel);
        let key = known.map_or_else(|| Arc::new(CheckingKey::new(&key)), |before| before.key);
        let message = NodeMessage::Snapshot(Box::new(millstream_wire::Snapshot {
            channel: snapshot.channel,
            status: wire_status(snapshot.status),
            confirmed_deposit: snapshot.deposit,
            accepted: snapshot.accepted,
            charged: snapshot.charged,
            settled: snapshot.settled,
            limits: self.shared.limits,
            tariff_version: 0,
        }));
        self.attached = Some(Attached { key, snapshot });
        self.write(&message)?;
        self.flush().await
    }

    /// Judges what needs no signature; the frames of each run without fault go on together.
    async fn frames(&mut self, frames: Vec<FrameMessage>) -> Result<(), SessionError> {
        let mut group = Vec::with_capacity(frames.len());
        for frame in frames {
            match self.refusal(&frame) {
                None => group.push(frame),
                Some(code) => {
                    self.check(core::mem::take(&mut group)).await?;
                    self.reject(code, frame.voucher().body().lines_total).await?;
                }
            }
        }
        self.check(group).await
    }

    fn refusal(&self, frame: &FrameMessage) -> Option<ErrorCode> {
        let Some(attached) = &self.attached else { return Some(ErrorCode::NotAttached) };
        if frame.channel() != attached.snapshot.channel {
            return Some(ErrorCode::WrongChannel);
        }
        if self.shared.view.is_current() { None } else { Some(ErrorCode::Overloaded) }
    }

    /// Checks the signatures and hashes the lines of frames of the attached channel.
    async fn check(&mut self, frames: Vec<FrameMessage>) -> Result<(), SessionError> {
        let Some(key) = self.attached.as_ref().map(|attached| Arc::clone(&attached.key)).filter(|_| !frames.is_empty()) else {
            return Ok(());
        };
        let verdicts = self.shared.verifier.check(&key, frames.iter().map(|frame| *frame.voucher()).collect()).await;
        let mut group = Vec::with_capacity(frames.len());
        for (frame, verdict) in frames.into_iter().zip(verdicts) {
            let lines_total = frame.voucher().body().lines_total;
            // Lines are hashed only where the signature holds. A frame that decodes has 1 to 1,024 of them, so it has a root.
            let judged = verdict
                .map_err(|_| ErrorCode::BadSignature)
                .and_then(|voucher| frame.root().map(|root| (voucher, root)).map_err(|_| ErrorCode::LinesMismatch));
            match judged {
                Ok((voucher, root)) => {
                    let (lines, amount) = (u32::from(frame.count()), frame.amount());
                    group.push(FrameInput { reply: ReplyId(0), voucher, root, lines, amount, bytes: frame.into_bytes() });
                }
                Err(refusal) => {
                    self.submit(core::mem::take(&mut group)).await?;
                    self.reject(refusal, lines_total).await?;
                }
            }
        }
        self.submit(group).await
    }

    async fn submit(&mut self, group: Vec<FrameInput>) -> Result<(), SessionError> {
        if group.is_empty() {
            return Ok(());
        }
        // No more than the window, which is 16 bits.
        self.in_flight = self.in_flight.saturating_add(u16::try_from(group.len()).unwrap_or(u16::MAX));
        Ok(self.shared.core.frames(group, self.reply.clone()).await?)
    }

    /// Writes what the core has released in the meantime.
    fn release_ready(&mut self) -> Result<(), SessionError> {
        while let Ok(mut release) = self.answers.try_recv() {
            self.release(&mut release)?;
        }
        Ok(())
    }

    fn release(&mut self, release: &mut Release) -> Result<(), SessionError> {
        self.in_flight = self.in_flight.saturating_sub(release.frames);
        for answer in release.answers.drain(..) {
            match answer {
                Answer::Ack(ack) => {
                    let ack = Ack { lines_total: ack.lines_total, cumulative: ack.cumulative, commit: release.commit, epoch: ack.epoch };
                    // A payer knows by its acks which epoch its lines are billed in.
                    if let Some(before) = self.unwritten_ack.replace(ack).filter(|before| before.epoch != ack.epoch) {
                        self.writer.queue_node(&NodeMessage::Ack(before))?;
                    }
                }
                Answer::Reject { rejection, lines_total, snapshot } => {
                    debug!(%rejection, lines_total, "frame rejected");
                    self.shared.metrics.rejects.inc();
                    if let (Some(attached), Some(snapshot)) = (&mut self.attached, snapshot) {
                        attached.snapshot = snapshot;
                    }
                    let reject = self.rejection(error_code(&rejection), lines_total);
                    self.write(&NodeMessage::Reject(reject))?;
                }
                // Attaches are answered through their own channel.
                Answer::Snapshot(_) => {}
            }
        }
        Ok(())
    }

    /// Answers a message that changed nothing and never reached the core, after everything that did.
    async fn reject(&mut self, code: ErrorCode, lines_total: u64) -> Result<(), SessionError> {
        let mut stopping = self.shared.stopping.clone();
        while self.in_flight > 0 {
            // This session keeps the sender too, so it would not see that a core is gone that answers no more.
            let mut release = tokio::select! {
                biased;
                Some(release) = self.answers.recv() => release,
                () = stopped(&mut stopping) => return Err(SessionError::Stopped(Stopped)),
            };
            self.release(&mut release)?;
        }
        debug!(code = code.name(), lines_total, "message rejected");
        self.shared.metrics.rejects.inc();
        self.refresh().await?;
        let reject = self.rejection(code, lines_total);
        self.write(&NodeMessage::Reject(reject))?;
        self.flush().await
    }

    /// Reads the attached channel's state again, so that a rejection names what is accepted now.
    async fn refresh(&mut self) -> Result<(), SessionError> {
        if let Some(attached) = &mut self.attached
            && let Answer::Snapshot(snapshot) = self.shared.core.attach(attached.snapshot.channel).await?
        {
            attached.snapshot = snapshot;
        }
        Ok(())
    }

    fn rejection(&self, code: ErrorCode, lines_total: u64) -> Reject {
        let Some(attached) = &self.attached else { return Reject::unattached(code, lines_total) };
        let accepted = attached.snapshot.accepted.map(|voucher| *voucher.body());
        Reject {
            code,
            lines_total,
            accepted_lines_total: accepted.map_or(0, |body| body.lines_total),
            accepted_cumulative: accepted.map_or(CumulativeAmount::ZERO, |body| body.cumulative),
            accepted_head: accepted.map_or_else(|| genesis(attached), |body| body.bill_head),
        }
    }

    fn write(&mut self, message: &NodeMessage) -> Result<(), SessionError> {
        if let Some(ack) = self.unwritten_ack.take() {
            self.writer.queue_node(&NodeMessage::Ack(ack))?;
        }
        Ok(self.writer.queue_node(message)?)
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        if let Some(ack) = self.unwritten_ack.take() {
            self.writer.queue_node(&NodeMessage::Ack(ack))?;
        }
        Ok(self.writer.flush().await?)
    }
}

fn genesis(attached: &Attached) -> BillHead {
    millstream_billing::genesis_head(&attached.snapshot.channel)
}

const fn wire_status(status: ChannelStatus) -> millstream_wire::ChannelStatus {
    match status {
        ChannelStatus::Open => millstream_wire::ChannelStatus::Open,
        ChannelStatus::Closing => millstream_wire::ChannelStatus::Closing,
        ChannelStatus::Closed => millstream_wire::ChannelStatus::Closed,
        ChannelStatus::Frozen => millstream_wire::ChannelStatus::Frozen,
    }
}

/// The one place where a rejection gets its number.
const fn error_code(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::UnknownChannel => ErrorCode::UnknownChannel,
        Rejection::ChannelClosing => ErrorCode::ChannelClosing,
        Rejection::ChannelFrozen => ErrorCode::ChannelFrozen,
        Rejection::StaleTotal { .. } => ErrorCode::StaleTotal,
        Rejection::LinesMismatch { .. } => ErrorCode::LinesMismatch,
        Rejection::AmountMismatch { .. } => ErrorCode::AmountMismatch,
        Rejection::BrokenBillHead { .. } => ErrorCode::BrokenBillHead,
        Rejection::DepositExceeded { .. } => ErrorCode::DepositExceeded,
    }
}
