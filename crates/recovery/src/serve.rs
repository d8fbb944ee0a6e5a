//! Serving requests at the head of the queue from rebuilt books: placed, proved, submitted. The operator may always do it, anyone else when each
//! of the requests is overdue (L-6).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use millstream_chain::{Asked as ChainAsked, BookRegistration, IntentId, Ledger, Operator, ServedRequest, SlotRow, Submitter, TxReceipt};
use millstream_circuit::{
    Book, BookSize, Operation, Place, Placement, QueuedKind, QueuedRequest, RegisterStatement, Row, field_from_word, field_to_word,
    plan_register,
};
use millstream_prover::{Blinding, CircuitId, KeyPins, Prover};
use millstream_types::{BookId, ChannelId};
use sha3::{Digest, Keccak256};

use crate::error::ServeError;
use crate::state::{Asked, ChannelPlace, RebuiltLedger, RebuiltRequest};

/// A request with the place that it is served in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The request.
    pub request: RebuiltRequest,
    /// Its row's book, and for an `open` its slot.
    pub placement: Placement,
}

/// The longest prefix of the queue, up to the request before `end`, that one transaction serves.
#[must_use]
pub fn plan_requests(rebuilt: &RebuiltLedger, end: u64) -> Vec<Served> {
    let waiting: Vec<&RebuiltRequest> = rebuilt.queue().iter().take_while(|request| request.index < end).collect();
    let queue: Vec<QueuedRequest> = waiting.iter().map(|request| queued(rebuilt, request)).collect();
    let sizes: Vec<u16> = rebuilt.sizes().iter().map(|size| size.slots()).collect();
    let occupied = rebuilt.books().iter().map(|(id, book)| (*id, book.channels().map(|(slot, _)| slot).collect::<BTreeSet<_>>())).collect();
    let placed = plan_register(&sizes, &occupied, &queue);
    placed.into_iter().zip(waiting).map(|(placement, request)| Served { request: *request, placement }).collect()
}

fn queued(rebuilt: &RebuiltLedger, request: &RebuiltRequest) -> QueuedRequest {
    let kind = match request.asked {
        _ if rebuilt.is_void(request) => QueuedKind::Void,
        Asked::Open { .. } => QueuedKind::Open,
        Asked::TopUp { .. } => QueuedKind::TopUp,
        Asked::Close => QueuedKind::Close,
    };
    let place = rebuilt.channel(&request.channel).map(|channel| channel.place);
    let book = match place {
        Some(ChannelPlace::Booked { book, .. }) => Some(book),
        Some(ChannelPlace::Queued | ChannelPlace::Closed | ChannelPlace::Cancelled) | None => None,
    };
    QueuedRequest { uid: request.channel, kind, book }
}

/// Proves and submits registrations from one account.
pub struct Server {
    ledger: Ledger,
    operator: Operator,
    keys_dir: PathBuf,
    provers: BTreeMap<BookSize, Arc<Prover>>,
}

impl Server {
    /// Registrations are sent by the account of `submitter`. Keys are in `keys_dir`: development keys, which are made when they are not there,
    /// or on a public chain the pinned ones.
    #[must_use]
    pub fn new(ledger: Ledger, submitter: Submitter, keys_dir: PathBuf) -> Self {
        Self { operator: Operator::new(ledger.clone(), submitter), ledger, keys_dir, provers: BTreeMap::new() }
    }

    /// Serves these requests, which are the first of the queue, in one transaction, and waits until it is confirmed. Nothing is sent when they
    /// cannot be proved.
    ///
    /// # Errors
    /// [`ServeError`]. When somebody else serves requests or settles meanwhile, the ledger refuses.
    pub async fn serve(&mut self, rebuilt: &RebuiltLedger, served: &[Served]) -> Result<TxReceipt, ServeError> {
        let mut operations: BTreeMap<BookId, Vec<Operation>> = BTreeMap::new();
        for served in served {
            if let Placement::Row { book, slot } = served.placement {
                operations.entry(book).or_default().push(operation(rebuilt, &served.request, slot)?);
            }
        }
        let (mut registrations, mut rows) = (Vec::new(), BTreeMap::new());
        for (index, (id, operations)) in operations.into_iter().enumerate() {
            let book = rebuilt.book(id).ok_or_else(|| internal(format!("book {id} is of no tier")))?;
            let registration = self.registration(id, book, operations).await?;
            for (row_index, row) in registration.rows.iter().enumerate() {
                let place = (narrow(index)?, narrow(row_index)?);
                rows.insert(ChannelId::from_uid(&row.uid), place);
            }
            registrations.push(registration);
        }
        let requests = served.iter().map(|served| presented(rebuilt, served, &rows)).collect::<Result<Vec<_>, _>>()?;
        let intent = intent(&registrations, served);
        self.operator.register(intent, &registrations, &requests).await.map_err(ServeError::Chain)
    }

    async fn registration(&mut self, id: BookId, book: Book, operations: Vec<Operation>) -> Result<BookRegistration, ServeError> {
        let place = Place { ledger: self.ledger.id(), book: id };
        let prover = self.prover(id, book.size()).await?;
        let proved = tokio::task::spawn_blocking(move || {
            let statement = RegisterStatement::new(place, &book, &operations).map_err(ServeError::Circuit)?;
            let blinding = Blinding::from_os().map_err(ServeError::Prover)?;
            let proof = prover.prove_register(&statement, &blinding).map_err(ServeError::Prover)?;
            Ok(BookRegistration {
                book: id,
                new_root: field_to_word(statement.new_root),
                commitment: field_to_word(statement.public.commitment),
                proof: proof.words(),
                rows: statement.rows.iter().map(slot_row).collect(),
            })
        });
        proved.await.map_err(|error| internal(error.to_string()))?
    }

    /// The prover of `register-N`, whose key is the one that the ledger verifies with.
    async fn prover(&mut self, book: BookId, size: BookSize) -> Result<Arc<Prover>, ServeError> {
        if let Some(prover) = self.provers.get(&size) {
            return Ok(Arc::clone(prover));
        }
        let tier = self.ledger.tier(book.tier()).ok_or_else(|| internal(format!("book {book} is of no tier")))?;
        let (chain, circuit, directory) = (self.ledger.chain(), (CircuitId::register(size), tier.register_key), self.keys_dir.clone());
        let loaded = tokio::task::spawn_blocking(move || Prover::for_chain(chain, [circuit], &directory, KeyPins::committed())).await;
        let prover = Arc::new(loaded.map_err(|error| internal(error.to_string()))?.map_err(ServeError::Prover)?);
        self.provers.insert(size, Arc::clone(&prover));
        Ok(prover)
    }
}

fn operation(rebuilt: &RebuiltLedger, request: &RebuiltRequest, slot: Option<u16>) -> Result<Operation, ServeError> {
    let uid = request.channel;
    let amount_nanos = request.asked.amount().to_u64().map_err(|error| internal(error.to_string()))?;
    Ok(match request.asked {
        Asked::Open { .. } => {
            let key_x = rebuilt.channel(&uid).and_then(|channel| field_from_word(&channel.key_x));
            let key_x = key_x.ok_or_else(|| internal(format!("channel {uid} has no key")))?;
            let slot = slot.ok_or_else(|| internal(format!("channel {uid} has no slot")))?;
            Operation::Open { slot, uid, key_x, amount_nanos }
        }
        Asked::TopUp { .. } => Operation::TopUp { uid, amount_nanos },
        Asked::Close => Operation::Close { uid },
    })
}

fn slot_row(row: &Row) -> SlotRow {
    let (flags, key_x) = (row.flags(), field_to_word(row.key_x()));
    SlotRow { slot: row.slot, flags, delta: row.delta_nanos(), refund: row.refund_nanos(), uid: row.uid.to_uid(), key_x }
}

/// A request as the ledger is shown it, with the row that serves it.
fn presented(rebuilt: &RebuiltLedger, served: &Served, rows: &BTreeMap<ChannelId, (u16, u16)>) -> Result<ServedRequest, ServeError> {
    let channel = served.request.channel;
    let (registration, row) = match served.placement {
        Placement::Row { .. } => *rows.get(&channel).ok_or_else(|| internal(format!("channel {channel} has no row")))?,
        // The ledger looks at neither.
        Placement::Void => (0, 0),
    };
    let amount = served.request.asked.amount().to_u64().map_err(|error| internal(error.to_string()))?;
    let asked = match served.request.asked {
        Asked::Open { .. } => {
            let key_x = rebuilt.channel(&channel).ok_or_else(|| internal(format!("channel {channel} is not known")))?.key_x;
            ChainAsked::Open { key_x, amount }
        }
        Asked::TopUp { .. } => ChainAsked::TopUp { amount },
        Asked::Close => ChainAsked::Close,
    };
    Ok(ServedRequest { channel, asked, registration, row })
}

/// The identity of a registration: whom it serves, and what it changes the books to. Sent again while it is under way, it is the same transaction.
fn intent(registrations: &[BookRegistration], served: &[Served]) -> IntentId {
    let mut hasher = Keccak256::new();
    for served in served {
        hasher.update(served.request.index.to_be_bytes());
    }
    for registration in registrations {
        hasher.update(registration.book.to_u32().to_be_bytes());
        hasher.update(registration.new_root);
    }
    IntentId::from_bytes(hasher.finalize().into())
}

fn narrow(index: usize) -> Result<u16, ServeError> {
    u16::try_from(index).map_err(|_| internal("more rows than a transaction holds".to_owned()))
}

fn internal(detail: String) -> ServeError {
    ServeError::Internal { detail }
}
