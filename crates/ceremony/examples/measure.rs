//! How long each step of a ceremony takes for a circuit, and how much memory all of it: with powers of tau whose secrets are known.
//!
//! `cargo run --release -p millstream-ceremony --features insecure-powers --example measure -- settle-24 [DIRECTORY]`
//!
//! In a directory that is named the files stay, the circuit for snarkjs among them.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use millstream_ceremony::insecure_powers::{Prepared, write_insecure_powers};
use millstream_ceremony::{Beacon, PowersPin, Reference, Secret, beacon, contribute, write_r1cs};
use millstream_circuit::MatrixName;
use millstream_prover::CircuitId;

fn main() -> Result<(), Box<dyn Error>> {
    let circuit: CircuitId = std::env::args().nth(1).ok_or("name a circuit")?.parse()?;
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args().nth(2).map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    let file = |name: &str| directory.join(name);
    let structure = circuit.structure();
    let log = (structure.constraints() + 4).next_power_of_two().trailing_zeros();
    let entries = [MatrixName::A, MatrixName::B, MatrixName::C].map(|name| structure.entries(name));
    println!("{circuit}: {} rows, 2^{log} points, {entries:?} entries", structure.constraints());
    write_r1cs(&structure, &file("circuit.r1cs"))?;
    drop(structure);

    let mut last = Instant::now();
    let mut step = |name: &str| {
        println!("{name:<12} {:>8.1} s", last.elapsed().as_secs_f64());
        last = Instant::now();
    };
    // One power more than the domain: the name of a large circuit takes it.
    let hash = write_insecure_powers(&file("powers.ptau"), log + 1, &[1; 32], Prepared::Yes)?;
    step("powers");
    let reference = Reference::derive(circuit, &file("powers.ptau"), PowersPin::Hash(hash))?;
    step("derive");
    reference.start(&file("0.zkey"))?;
    step("write");
    contribute(&file("0.zkey"), &file("1.zkey"), None, Secret::from_os(b"")?)?;
    step("contribute");
    beacon(&file("1.zkey"), &file("2.zkey"), None, Beacon { value: vec![1; 32], iterations_log2: 10 })?;
    step("beacon");
    let verified = reference.verify(&file("2.zkey"))?;
    step("verify");
    let finished = verified.finish(&file("keys"))?;
    step("finish");
    for path in [file("powers.ptau"), file("2.zkey"), finished.key] {
        println!("{:<40} {:>6} MB", path.file_name().unwrap_or_default().display(), fs::metadata(&path)?.len() / 1_000_000);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}
