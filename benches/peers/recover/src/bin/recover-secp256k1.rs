//! alloy over libsecp256k1.

fn main() -> anyhow::Result<()> {
    millstream_peer_recover::run("libsecp256k1", 45_000.0, &millstream_peer_measure::Options::from_env()?)
}
