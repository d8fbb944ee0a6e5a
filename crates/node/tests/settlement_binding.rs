//! A proof is good for one ledger, chain, state and data, and for nothing else.

use millstream_billing::genesis_head;
use millstream_chain::{
    Asked, BookRegistration, BookSettlement, ChainKey, DeployPlan, IntentId, KeyProvenance, Ledger, OpenRequest, Operator, Payer, Rpc,
    RpcOptions, ServedRequest, SlotRow, Submitter, SubmitterOptions, TierPlan, TokenChoice, VoucherKeyWitness, deploy, mint,
};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, field_from_word, field_to_word};
use millstream_prover::{Blinding, CircuitId, InsecureDevKeys, Prover};
use millstream_testkit::{Anvil, AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{BookId, ChannelId, CumulativeAmount, Tier};
use millstream_voucher::{SecretKey, VoucherBody};

/// A name and what it changes.
type Change<T> = (&'static str, fn(&mut T));

/// A chain with a ledger, and one channel in its book.
struct Site {
    operator: Operator,
    channel: ChannelId,
    book: Book,
    _anvil: Option<Anvil>,
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 64]).expect("a key")
}

fn size() -> BookSize {
    BookSize::new(24).expect("a size")
}

fn book_id() -> BookId {
    BookId::new(Tier::new(0), 0).expect("small")
}

fn prover() -> Prover {
    let directory = millstream_prover::default_keys_dir().expect("a directory");
    Prover::insecure_dev(CircuitId::of_tier(size()).map(|circuit| InsecureDevKeys::load_or_generate(circuit, &directory).expect("keys")))
}

fn blinding() -> Blinding {
    Blinding::from_os().expect("randomness")
}

fn intent(number: u8) -> IntentId {
    IntentId::from_bytes([number; 32])
}

async fn lane(url: &str, account: usize) -> Submitter {
    let rpc = Rpc::connect(url, RpcOptions::default()).await.expect("the chain answers");
    let key = ChainKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
    Submitter::new(rpc, key, SubmitterOptions::for_development())
}

/// Deploys a ledger, opens a channel and registers it with a real proof.
async fn site(url: &str, anvil: Option<Anvil>, prover: &Prover, salt: u8) -> Site {
    let deployer = lane(url, 0).await;
    let words = |circuit| prover.verifying_key(circuit).expect("loaded").words();
    let tier = TierPlan {
        slots: size().slots(),
        empty_root: field_to_word(Book::empty_root(size())),
        settle_key: words(CircuitId::settle(size())),
        register_key: words(CircuitId::register(size())),
    };
    let plan = DeployPlan {
        provenance: KeyProvenance::InsecureDevelopment,
        provider: DEV_ACCOUNTS[1].address,
        operator: DEV_ACCOUNTS[2].address,
        response_window_secs: 86_400,
        halt_window_secs: 7 * 86_400,
        deposit_min: millstream_types::Amount::ZERO,
        token: TokenChoice::TestUsdc,
        salt: [salt; 32],
        tiers: vec![tier],
    };
    let deployment = deploy(&deployer, &plan).await.expect("the ledger deploys");
    mint(&deployer, deployment.token, DEV_ACCOUNTS[3].address, 1_000_000).await.expect("tokens");
    let ledger = Ledger::attach(deployer.rpc().clone(), deployment.ledger).await.expect("the ledger");
    let payer = Payer::new(ledger.clone(), lane(url, 3).await);
    let (key, witness) = (secret(1), secret(1).witness());
    let key = VoucherKeyWitness { x: key.public_key().x(), qx: witness.x, qy: witness.y };
    let opening = payer.open(&OpenRequest { key, salt: [1; 32], deposit_base_units: 1_000 }).await.expect("the channel opens");

    let operator = Operator::new(ledger.clone(), lane(url, 2).await);
    let amount = opening.deposit.to_u64().expect("64 bits");
    let open =
        Operation::Open { slot: 5, uid: opening.channel, key_x: field_from_word(&key.x).expect("a field element"), amount_nanos: amount };
    let statement =
        RegisterStatement::new(Place { ledger: ledger.id(), book: book_id() }, &Book::empty(size()), &[open]).expect("a statement");
    let proof = prover.prove_register(&statement, &blinding()).expect("a proof").words();
    let row = statement.rows[0];
    let mut uid = [0; 31];
    uid.copy_from_slice(&row.uid.as_bytes()[1..]);
    let good = BookRegistration {
        book: book_id(),
        new_root: field_to_word(statement.new_root),
        commitment: field_to_word(statement.public.commitment),
        proof,
        rows: vec![SlotRow { slot: 5, flags: row.flags(), delta: amount, refund: 0, uid, key_x: key.x }],
    };
    let request = ServedRequest { channel: opening.channel, asked: Asked::Open { key_x: key.x, amount }, registration: 0, row: 0 };

    // Registration: any change of what the proof is about is refused.
    let changes: [Change<BookRegistration>; 6] = [
        ("another book", |registration| registration.book = BookId::new(Tier::new(0), 1).expect("small")),
        ("another slot", |registration| registration.rows[0].slot = 6),
        ("a refund", |registration| registration.rows[0].refund = 1),
        ("another root", |registration| registration.new_root[31] ^= 1),
        ("another commitment", |registration| registration.commitment[31] ^= 1),
        ("another proof", |registration| registration.proof[1] = registration.proof[7]),
    ];
    for (number, (name, change)) in (100..).zip(changes) {
        let mut bad = good.clone();
        change(&mut bad);
        let refused = operator.register(intent(number), &[bad], &[request]).await.expect_err(name);
        assert!(refused.revert().and_then(|revert| revert.name()).is_some(), "{name}: {refused}");
    }
    let lie = ServedRequest { asked: Asked::Open { key_x: key.x, amount: amount + 1 }, ..request };
    assert_reverts(operator.register(intent(99), std::slice::from_ref(&good), &[lie]).await, "RequestMismatch", "another amount");
    operator.register(intent(1), &[good], &[request]).await.expect("the registration is accepted");
    Site { operator, channel: opening.channel, book: statement.book_after, _anvil: anvil }
}

fn assert_reverts<T: std::fmt::Debug>(outcome: Result<T, millstream_chain::ChainError>, error: &str, what: &str) {
    let refused = outcome.expect_err(what);
    assert_eq!(refused.revert().and_then(|revert| revert.name()), Some(error), "{what}: {refused}");
}

impl Site {
    /// Settles the channel's voucher of `cumulative` nanos.
    fn settlement(&self, prover: &Prover, cumulative: u64) -> BookSettlement {
        let place = Place { ledger: self.operator.ledger().id(), book: book_id() };
        let body = VoucherBody {
            channel: self.channel,
            lines_total: 1,
            cumulative: CumulativeAmount::from_nanos(cumulative),
            bill_head: genesis_head(&self.channel),
        };
        let mut vouchers = vec![None; size().to_usize()];
        vouchers[5] = Some(secret(1).sign(body).expect("64 bits"));
        let statement = SettleStatement::new(place, &self.book, &vouchers).expect("a statement");
        let proof = prover.prove_settle(&statement, &blinding()).expect("a proof");
        let mut deltas = vec![0; size().to_usize()];
        deltas[5] = cumulative;
        BookSettlement {
            book: book_id(),
            new_root: field_to_word(statement.new_root),
            total: millstream_types::Amount::from_units(statement.total_nanos),
            commitment: field_to_word(statement.public.commitment),
            proof: proof.words(),
            deltas,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_refused_for_anything_else() {
    let prover = prover();
    let (first, second) = (
        Anvil::spawn(&AnvilOptions::default()).expect("anvil"),
        Anvil::spawn(&AnvilOptions::default().with_chain_id(1_337)).expect("anvil"),
    );
    let (first_url, second_url) = (first.url(), second.url());
    let here = site(&first_url, Some(first), &prover, 0).await;
    let same_chain = site(&first_url, None, &prover, 1).await;
    let other_chain = site(&second_url, Some(second), &prover, 0).await;
    // The deployments are twins: what differs between the chains is the chain id, and what follows from it.
    assert_eq!(here.operator.ledger().address(), other_chain.operator.ledger().address());

    let good = here.settlement(&prover, 700);
    assert_reverts(same_chain.operator.settle(intent(10), std::slice::from_ref(&good), &[]).await, "ProofRejected", "another ledger");
    assert_reverts(other_chain.operator.settle(intent(11), std::slice::from_ref(&good), &[]).await, "ProofRejected", "another chain");

    let changes: [Change<BookSettlement>; 8] = [
        ("another book", |settlement| settlement.book = BookId::new(Tier::new(0), 1).expect("small")),
        ("a larger delta", |settlement| settlement.deltas[5] += 1),
        ("a delta elsewhere", |settlement| settlement.deltas.swap(5, 6)),
        ("a delta more", |settlement| settlement.deltas[23] = 1),
        ("a larger total", |settlement| settlement.total = millstream_types::Amount::from_nanos(701)),
        ("another root", |settlement| settlement.new_root[31] ^= 1),
        ("another commitment", |settlement| settlement.commitment[31] ^= 1),
        ("another proof", |settlement| settlement.proof[0] = settlement.proof[6]),
    ];
    for (number, (name, change)) in (20..).zip(changes) {
        let mut bad = good.clone();
        change(&mut bad);
        assert_reverts(here.operator.settle(intent(number), &[bad], &[]).await, "ProofRejected", name);
    }

    here.operator.settle(intent(30), std::slice::from_ref(&good), &[]).await.expect("the settlement is accepted");
    let credit = here.operator.ledger().credit(DEV_ACCOUNTS[1].address).await.expect("a credit");
    assert_eq!(credit.units(), 700);
    // The book has moved on: the same proof is about a state that is no more.
    assert_reverts(here.operator.settle(intent(31), &[good], &[]).await, "ProofRejected", "a stale state");
}
