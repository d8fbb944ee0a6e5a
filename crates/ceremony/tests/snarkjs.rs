//! npm's snarkjs, unmodified, as the other implementation: it takes our files, we take its, and it verifies our proofs.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{by_number, ceremony, registration};
use millstream_ceremony::{write_r1cs, write_witness};
use millstream_prover::{Blinding, KeyPins, ProductionKeys, Prover, snarkjs};

/// snarkjs' own command line, which the contracts' tools bring.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/node_modules/snarkjs/build/cli.cjs");
    assert!(program.is_file(), "snarkjs is not installed: run `npm --prefix contracts ci`");
    program
}

/// Runs snarkjs; whether it succeeded, and what it said.
fn run(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (bool, String) {
    let mut command = Command::new("node");
    command.arg(program()).args(arguments.iter().map(AsRef::as_ref));
    let output = command.output().expect("node starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn succeeds(arguments: &[&dyn AsRef<std::ffi::OsStr>], expected: &str) {
    let (succeeded, said) = run(arguments);
    assert!(succeeded && said.contains(expected), "{said}");
}

#[test]
fn each_takes_the_files_of_the_other() {
    let ceremony = ceremony();
    let (r1cs, powers) = (ceremony.file("circuit.r1cs"), ceremony.powers());
    write_r1cs(ceremony.reference.structure(), &r1cs).expect("written");
    let rows = format!("# of Constraints: {}", ceremony.reference.structure().constraints());
    succeeds(&[&"r1cs", &"info", &r1cs], &rows);

    // The same beginning, byte for byte in every section.
    let theirs = ceremony.file("theirs-0.zkey");
    succeeds(&[&"groth16", &"setup", &r1cs, &powers, &theirs], "Circuit hash");
    assert!(by_number(&theirs) == by_number(&ceremony.initial()), "the initial parameters differ");

    // It verifies a ceremony of ours, against its own beginning.
    succeeds(&[&"zkvi", &theirs, &powers, &ceremony.last()], "ZKey Ok!");

    // Its contribution between two of ours, and its beacon at the end.
    let (second, third, last) = (ceremony.file("theirs-2.zkey"), "ours-3.zkey", ceremony.file("theirs-4.zkey"));
    let entropy = "-e=what the participant typed";
    succeeds(&[&"zkey", &"contribute", &ceremony.file("first.zkey"), &second, &"--name=Grace", &entropy], "Contribution Hash");
    let third = ceremony.contribute(&second, third);
    let value = "be".repeat(32);
    succeeds(&[&"zkey", &"beacon", &third, &last, &value, &"10", &"-n=closing"], "Contribution Hash");
    let verified = ceremony.reference.verify(&last).expect("it holds");
    let names: Vec<_> = verified.transcript().contributions.into_iter().map(|contribution| contribution.name.unwrap_or_default()).collect();
    assert_eq!(names, ["somebody", "Grace", "somebody", "closing"]);
    succeeds(&[&"zkey", &"verify", &r1cs, &powers, &last], "ZKey Ok!");

    // Tampered, it is refused there as it is here.
    let bent = ceremony.tampered(&last, "bent.zkey", 8, |section| common::swap_points(section, 64, 10, 11));
    let (accepted, said) = run(&[&"zkvi", &theirs, &powers, &bent]);
    assert!(!accepted && !said.contains("ZKey Ok!"), "{said}");
    ceremony.reference.verify(&bent).expect_err("it does not hold");
}

#[test]
fn it_verifies_our_proofs_and_refuses_wrong_ones() {
    let ceremony = ceremony();
    let directory = ceremony.file("exported");
    let finished = ceremony.reference.verify(&ceremony.last()).expect("it holds").finish(&directory).expect("finished");
    let pins = KeyPins::parse(&finished.pin.to_toml()).expect("well formed");
    let keys = ProductionKeys::load(ceremony.circuit, &directory, &pins).expect("the pinned key");
    let statement = registration(1);
    let proof = Prover::production([keys]).prove_register(&statement, &Blinding::from_os().expect("entropy")).expect("a proof");

    let write = |name: &str, value: &serde_json::Value| {
        fs::write(directory.join(name), value.to_string()).expect("writable");
        directory.join(name)
    };
    let inputs = statement.public.to_array();
    let (proof, public) = (write("proof.json", &snarkjs::proof(&proof)), write("public.json", &snarkjs::public(&inputs)));
    let verify = |key: &Path, public: &Path, proof: &Path| run(&[&"groth16", &"verify", &key, &public, &proof]);
    let accepted = |(succeeded, said): (bool, String)| succeeded && said.contains("OK!");
    assert!(accepted(verify(&finished.verification_key, &public, &proof)));

    // Under the key that snarkjs itself takes from the parameters, too: the factor of gamma changes nothing.
    let theirs = directory.join("theirs.json");
    succeeds(&[&"zkey", &"export", &"verificationkey", &ceremony.last(), &theirs], "EXPORT VERIFICATION KEY FINISHED");
    assert!(accepted(verify(&theirs, &public, &proof)));

    let wrong = write("wrong.json", &snarkjs::public(&[inputs[0], inputs[2], inputs[1]]));
    for key in [&finished.verification_key, &theirs] {
        let (succeeded, said) = verify(key, &wrong, &proof);
        assert!(!succeeded && said.contains("Invalid proof"), "{said}");
    }
    let mut other: serde_json::Value = serde_json::from_slice(&fs::read(&proof).expect("readable")).expect("JSON");
    other["pi_c"] = other["pi_a"].clone();
    let other = write("other.json", &other);
    assert!(!accepted(verify(&finished.verification_key, &public, &other)));
}

#[test]
fn it_proves_with_our_witness() {
    let ceremony = ceremony();
    let [r1cs, witness, proof, public, key] =
        ["witnessed.r1cs", "witness.wtns", "theirs-proof.json", "theirs-public.json", "theirs-key.json"].map(|name| ceremony.file(name));
    write_r1cs(ceremony.reference.structure(), &r1cs).expect("written");
    let statement = registration(1);
    write_witness(&statement.witness(), &witness).expect("written");
    succeeds(&[&"wtns", &"check", &r1cs, &witness], "WITNESS IS CORRECT");
    succeeds(&[&"groth16", &"prove", &ceremony.last(), &witness, &proof, &public], "");
    let theirs: serde_json::Value = serde_json::from_slice(&fs::read(&public).expect("readable")).expect("JSON");
    assert_eq!(theirs, snarkjs::public(&statement.public.to_array()));
    succeeds(&[&"zkey", &"export", &"verificationkey", &ceremony.last(), &key], "");
    succeeds(&[&"groth16", &"verify", &key, &public, &proof], "OK!");

    // A value that breaks a row.
    let mut wrong = statement.witness();
    let last = wrong.assignment.last_mut().expect("there are variables");
    *last += ark_bn254::Fr::from(1u64);
    let witness = ceremony.file("wrong.wtns");
    write_witness(&wrong, &witness).expect("written");
    let (succeeded, said) = run(&[&"wtns", &"check", &r1cs, &witness]);
    assert!(!succeeded && !said.contains("WITNESS IS CORRECT"), "{said}");
}
