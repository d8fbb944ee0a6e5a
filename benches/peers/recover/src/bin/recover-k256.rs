//! alloy over k256, its default.

fn main() -> anyhow::Result<()> {
    millstream_peer_recover::run("k256", 15_000.0, &millstream_peer_measure::Options::from_env()?)
}
