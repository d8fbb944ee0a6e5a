//! Connections and attached streams.

use std::sync::Arc;
use std::time::Duration;

use millstream_transport::{ChannelStream, ClientEndpoint, Connection, StreamError};
use millstream_types::ChannelId;
use millstream_wire::{ChannelStatus, LENGTH_BYTES, NodeMessage, PayerMessage, Snapshot};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Lane, Mode, Plan, Target};
use crate::LoadError;

/// Connections that are being opened at one time.
const OPENING_MAX: usize = 64;

/// How long the node may take to answer an attach.
const ATTACH_DEADLINE: Duration = Duration::from_secs(30);

/// What has to stay open while a run lasts.
pub(super) struct Connections {
    pub(super) endpoints: Vec<ClientEndpoint>,
    pub(super) connections: Vec<Connection>,
}

/// An attached channel.
pub(super) struct Attached {
    /// Its position among the lanes.
    pub(super) position: usize,
    pub(super) lane: Lane,
    pub(super) stream: ChannelStream,
    /// Frames that may be under way.
    pub(super) window: u64,
}

/// Connects, a bounded number at a time, and attaches every channel. The result is in the order of the lanes.
pub(super) async fn attach_all(target: &Target, lanes: Vec<Lane>, plan: &Plan) -> Result<(Connections, Vec<Attached>), LoadError> {
    // A socket for each core: one would be one receiving task for all connections.
    let sockets = std::thread::available_parallelism().map_or(1, usize::from).min(plan.connections);
    let endpoints = (0..sockets).map(|_| ClientEndpoint::bind_for(target.address, target.transport)).collect::<Result<Vec<_>, _>>()?;
    let mut dealt: Vec<Vec<(usize, Lane)>> = (0..plan.connections).map(|_| Vec::new()).collect();
    for (position, lane) in lanes.into_iter().enumerate() {
        dealt[position % plan.connections].push((position, lane));
    }
    let (permits, target) = (Arc::new(Semaphore::new(OPENING_MAX)), Arc::new(target.clone()));
    let mut opening = JoinSet::new();
    for (number, lanes) in dealt.into_iter().enumerate() {
        let (permits, target, endpoint, mode) = (Arc::clone(&permits), Arc::clone(&target), endpoints[number % sockets].clone(), plan.mode);
        opening.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            open(&endpoint, &target, lanes, mode).await
        });
    }
    let (mut connections, mut attached) = (Vec::with_capacity(plan.connections), Vec::new());
    while let Some(opened) = opening.join_next().await {
        let (connection, streams) = opened.map_err(|error| LoadError::Internal { what: error.to_string() })??;
        connections.push(connection);
        attached.extend(streams);
    }
    attached.sort_by_key(|stream| stream.position);
    Ok((Connections { endpoints, connections }, attached))
}

async fn open(
    endpoint: &ClientEndpoint,
    target: &Target,
    lanes: Vec<(usize, Lane)>,
    mode: Mode,
) -> Result<(Connection, Vec<Attached>), LoadError> {
    let connection = endpoint.connect(target.address, &target.host_name, &target.trust).await?;
    let mut streams = Vec::with_capacity(lanes.len());
    for (position, lane) in lanes {
        let channel = lane.payer.channel();
        let attaching = tokio::time::timeout(ATTACH_DEADLINE, attach(&connection, target, &lane));
        let (stream, snapshot) = attaching.await.map_err(|_| LoadError::AttachTimeout { channel, after: ATTACH_DEADLINE })??;
        check(&lane, &snapshot)?;
        let allowed = u64::from(snapshot.limits.frames_in_flight_max);
        let window = match mode {
            Mode::Saturated { in_flight } => allowed.min(in_flight.max(1).into()),
            Mode::OneAtATime { .. } => 1,
            Mode::Offered(_) => allowed,
        };
        streams.push(Attached { position, lane, stream, window });
    }
    Ok((connection, streams))
}

async fn attach(connection: &Connection, target: &Target, lane: &Lane) -> Result<(ChannelStream, Box<Snapshot>), LoadError> {
    let channel = lane.payer.channel();
    let failed = |source: StreamError| LoadError::Stream { channel, source };
    let mut stream = connection.open_channel().await.map_err(failed)?;
    stream.writer.queue_payer(&PayerMessage::Attach(lane.payer.attach(target.ledger)?)).map_err(failed)?;
    stream.writer.flush().await.map_err(failed)?;
    let message = stream.reader.next().await.map_err(failed)?.ok_or(LoadError::Ended { channel })?;
    match decode(channel, &message)? {
        NodeMessage::Snapshot(snapshot) => Ok((stream, snapshot)),
        NodeMessage::Reject(reject) => Err(rejected(channel, &reject)),
        other @ (NodeMessage::Ack(_) | NodeMessage::Relayed(_) | NodeMessage::Refused(_)) => {
            Err(LoadError::Unexpected { channel, kind: other.kind() })
        }
    }
}

pub(super) fn decode(channel: ChannelId, message: &[u8]) -> Result<NodeMessage, LoadError> {
    NodeMessage::decode(message).map_err(|source| LoadError::Message { channel, source })
}

pub(super) fn rejected(channel: ChannelId, reject: &millstream_wire::Reject) -> LoadError {
    LoadError::Rejected { channel, code: reject.code, lines_total: reject.lines_total, accepted_lines_total: reject.accepted_lines_total }
}

/// Whether the channel stands where the payer does, and takes what it will send.
fn check(lane: &Lane, snapshot: &Snapshot) -> Result<(), LoadError> {
    let (payer, frames) = (&lane.payer, &lane.frames);
    let accepted = snapshot.accepted.map(|voucher| *voucher.body());
    let (lines_total, cumulative) = accepted.map_or((0, 0), |body| (body.lines_total, body.cumulative.units()));
    let needed = u128::from(payer.cumulative()) + u128::from(frames.workload().frame_nanos()) * frames.count() as u128;
    let stands_there = lines_total == payer.lines_total() && cumulative == u128::from(payer.cumulative());
    if snapshot.status != ChannelStatus::Open || !stands_there || snapshot.confirmed_deposit.units() < needed {
        return Err(LoadError::Channel {
            channel: payer.channel(),
            status: snapshot.status,
            lines_total,
            expected_lines: payer.lines_total(),
            deposit: snapshot.confirmed_deposit.units(),
            needed,
        });
    }
    let (lines, bytes) = (frames.workload().lines, frames.workload().frame_bytes() - LENGTH_BYTES);
    let lines_max = usize::from(snapshot.limits.frame_lines_max);
    let bytes_max = usize::try_from(snapshot.limits.frame_bytes_max).unwrap_or(usize::MAX);
    if lines > lines_max || bytes > bytes_max { Err(LoadError::FrameLimit { lines_max, bytes_max, lines, bytes }) } else { Ok(()) }
}
