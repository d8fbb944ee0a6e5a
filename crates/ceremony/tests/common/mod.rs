//! Small circuits, small powers of tau, and files that were tampered with.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use millstream_ceremony::insecure_powers::{Prepared, write_insecure_powers};
use millstream_ceremony::{Beacon, PowersPin, Reference, Secret, beacon, contribute};
use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement};
use millstream_prover::CircuitId;
use millstream_types::{Address, BookId, ChainId, LedgerId, Tier};
use tempfile::TempDir;

/// A ceremony in a directory of its own: powers, start, two participants and a beacon.
pub struct Ceremony {
    directory: TempDir,
    pub circuit: CircuitId,
    pub pin: PowersPin,
    pub reference: Reference,
}

/// The ceremony of the smallest circuit, made once: tests add files under names of their own.
pub fn ceremony() -> &'static Ceremony {
    static CEREMONY: LazyLock<Ceremony> = LazyLock::new(|| Ceremony::new(register_1()));
    &CEREMONY
}

/// The smallest circuit.
pub fn register_1() -> CircuitId {
    CircuitId::register(BookSize::new(1).expect("a size"))
}

pub fn settle_1() -> CircuitId {
    CircuitId::settle(BookSize::new(1).expect("a size"))
}

/// The logarithm of the circuit's domain: its rows and one for each of the four instance variables.
pub fn log_of(circuit: CircuitId) -> u32 {
    (circuit.structure().constraints() + 4).next_power_of_two().trailing_zeros()
}

impl Ceremony {
    /// A directory with powers of tau that fit the circuit.
    pub fn new(circuit: CircuitId) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let powers = directory.path().join("powers.ptau");
        let hash = write_insecure_powers(&powers, log_of(circuit), &[1; 32], Prepared::Yes);
        let pin = PowersPin::Hash(hash.expect("written"));
        let reference = Reference::derive(circuit, &powers, pin).expect("derived");
        let ceremony = Self { directory, circuit, pin, reference };
        ceremony.reference.start(&ceremony.file("initial.zkey")).expect("started");
        let first = ceremony.contribute(&ceremony.initial(), "first.zkey");
        let second = ceremony.contribute(&first, "second.zkey");
        ceremony.beacon(&second, "final.zkey");
        ceremony
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn powers(&self) -> PathBuf {
        self.file("powers.ptau")
    }

    pub fn initial(&self) -> PathBuf {
        self.file("initial.zkey")
    }

    /// With two participants, whose are `first.zkey` and `second.zkey`, and a beacon.
    pub fn last(&self) -> PathBuf {
        self.file("final.zkey")
    }

    pub fn contribute(&self, input: &Path, out: &str) -> PathBuf {
        let out = self.file(out);
        let secret = Secret::from_os(out.as_os_str().as_encoded_bytes()).expect("entropy");
        contribute(input, &out, Some("somebody"), secret).expect("contributed");
        out
    }

    pub fn beacon(&self, input: &Path, out: &str) -> PathBuf {
        let out = self.file(out);
        beacon(input, &out, None, Beacon { value: vec![0xbe; 32], iterations_log2: 10 }).expect("closed");
        out
    }

    /// A copy of a file with one section changed, under a new name.
    pub fn tampered(&self, path: &Path, name: &str, section: u32, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let bytes = fs::read(path).expect("readable");
        let mut sections = sections_of(&bytes);
        change(sections.iter_mut().find(|(number, _)| *number == section).map(|(_, bytes)| bytes).expect("there is such a section"));
        let mut out = bytes[..12].to_vec();
        for (number, bytes) in sections {
            out.extend(number.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        }
        let path = self.file(name);
        fs::write(&path, out).expect("writable");
        path
    }
}

/// The sections of a file, in its order.
pub fn sections_of(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut rest = &bytes[12..];
    let mut sections = Vec::new();
    while let Some((number, after)) = rest.split_first_chunk::<4>() {
        let (len, after) = after.split_first_chunk::<8>().expect("a length");
        let (section, after) = after.split_at(u64::from_le_bytes(*len) as usize);
        sections.push((u32::from_le_bytes(*number), section.to_vec()));
        rest = after;
    }
    sections
}

pub fn by_number(path: &Path) -> BTreeMap<u32, Vec<u8>> {
    sections_of(&fs::read(path).expect("readable")).into_iter().collect()
}

/// Exchanges two points: each stays a point of the group.
pub fn swap_points(section: &mut [u8], bytes: usize, one: usize, other: usize) {
    assert_ne!(section[one * bytes..][..bytes], section[other * bytes..][..bytes]);
    (0..bytes).for_each(|byte| section.swap(one * bytes + byte, other * bytes + byte));
}

/// A registration of nothing, in a book of one slot on this chain.
pub fn registration(chain: u64) -> RegisterStatement {
    let ledger = LedgerId { chain: ChainId::new(chain), contract: Address::from_bytes([1; 20]) };
    let place = Place { ledger, book: BookId::new(Tier::new(0), 0).expect("small") };
    let none: &[Operation] = &[];
    RegisterStatement::new(place, &Book::empty(BookSize::new(1).expect("a size")), none).expect("nothing to do")
}
