//! The same statement proved by others: snarkjs from npm beside this prover, on one circuit and one witness, witness included for ours.
//!
//! snarkjs is a program of its own, so its time has the start of Node and the reading of key and witness in it; that is how it is used. It
//! needs the contracts' tools (`cargo xtask setup`) and, once, the parameters of a ceremony with known secrets, which are made here.
#![allow(missing_docs, reason = "criterion's macros")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use millstream_benches::full_settlement;
use millstream_ceremony::insecure_powers::{Prepared, write_insecure_powers};
use millstream_ceremony::{PowersPin, Reference, Secret, contribute, write_witness};
use millstream_circuit::BookSize;
use millstream_prover::{Arithmetic, Blinding, CircuitId, InsecureDevKeys, Prover};

/// A key and a witness as snarkjs reads them.
fn files(circuit: CircuitId, directory: &Path) -> [PathBuf; 2] {
    let [powers, initial, key, witness] = ["powers.ptau", "0.zkey", "1.zkey", "witness.wtns"].map(|name| directory.join(name));
    let points = (circuit.structure().constraints() + 4).next_power_of_two();
    // One power more than the domain: the name of a large circuit takes it.
    let hash = write_insecure_powers(&powers, points.trailing_zeros() + 1, &[1; 32], Prepared::Yes).expect("written");
    Reference::derive(circuit, &powers, PowersPin::Hash(hash)).expect("derived").start(&initial).expect("written");
    contribute(&initial, &key, None, Secret::from_os(b"").expect("entropy")).expect("contributed");
    [key, witness]
}

fn prove(criterion: &mut Criterion) {
    // Cargo says so when it measures. Under test, the smallest book does.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let slots = if measuring { 24 } else { 1 };
    let size = BookSize::new(slots).expect("a size of book");
    let (circuit, statement) = (CircuitId::settle(size), full_settlement(size));
    let directory = tempfile::tempdir().expect("a directory");
    let [key, witness] = files(circuit, directory.path());
    write_witness(&statement.witness(), &witness).expect("written");

    let mut group = criterion.benchmark_group(format!("prove_{circuit}"));
    group.sample_size(10);
    let keys = InsecureDevKeys::generate(circuit).expect("development keys");
    for (name, arithmetic) in [("fastest", Arithmetic::Fastest), ("affine", Arithmetic::Affine), ("ark", Arithmetic::Ark)] {
        let prover = Prover::insecure_dev_with([keys.clone()], arithmetic);
        let blinding = Blinding::from_entropy(&[5; 128]);
        group.bench_function(name, |bencher| bencher.iter(|| prover.prove_settle(&statement, &blinding).expect("an honest statement")));
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/node_modules/snarkjs/build/cli.cjs");
    let [proof, public] = ["proof.json", "public.json"].map(|name| directory.path().join(name));
    group.finish();
    // A run takes so long that three of them say enough; criterion takes no fewer than ten.
    let mut seconds: Vec<f64> = (0..if measuring { 3 } else { 1 })
        .map(|_| {
            let started = Instant::now();
            let mut command = Command::new("node");
            command.arg(&program).args(["groth16", "prove"]).args([&key, &witness, &proof, &public]);
            let status = command.stdout(Stdio::null()).status().expect("node starts");
            assert!(status.success(), "snarkjs proves");
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    println!("prove_{circuit}/snarkjs: {seconds:.2?} s, of the program from its start to its end");
}

criterion_group!(benches, prove);
criterion_main!(benches);
