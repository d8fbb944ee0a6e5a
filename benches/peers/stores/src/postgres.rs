//! PostgreSQL, one transaction a payment: a row, or a row and the channel's newest cumulative amount.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use millstream_peer_measure::{Clock, Count, Options, Row};
use tokio_postgres::{Client, NoTls};

use crate::{UNVERIFIED, Voucher};

const TABLES: &str = "
    DROP TABLE IF EXISTS vouchers, channels;
    CREATE TABLE vouchers (id bigserial PRIMARY KEY, channel bytea NOT NULL, cumulative bigint NOT NULL, signature bytea NOT NULL);
    CREATE TABLE channels (channel bytea PRIMARY KEY, cumulative bigint NOT NULL, signature bytea NOT NULL)";

const INSERT: &str = "INSERT INTO vouchers (channel, cumulative, signature) VALUES ($1, $2, $3)";

/// One statement for both, so that the payment costs one round trip. An amount that is not above the channel's changes nothing there.
const INSERT_AND_UPSERT: &str = "
    WITH voucher AS (INSERT INTO vouchers (channel, cumulative, signature) VALUES ($1, $2, $3))
    INSERT INTO channels (channel, cumulative, signature) VALUES ($1, $2, $3)
    ON CONFLICT (channel) DO UPDATE SET cumulative = excluded.cumulative, signature = excluded.signature
    WHERE channels.cumulative < excluded.cumulative";

/// Prints a row for each shape.
pub async fn run(options: &Options) -> Result<()> {
    let version = version(&connect(options).await?).await?;
    let variants = [
        ("INSERT a payment", INSERT, "each payment a row; fsync and synchronous_commit on, before the reply"),
        (
            "INSERT a payment and upsert its channel",
            INSERT_AND_UPSERT,
            "each payment a row, and the channel's newest; fsync and synchronous_commit on, before the reply",
        ),
    ];
    for (what, statement, durable) in variants {
        for connections in [1, 16, 64] {
            let setup = format!("{what}, {connections} connection{}", if connections == 1 { "" } else { "s" });
            let count = store(options, statement, connections).await?;
            Row { peer: "PostgreSQL", version: &version, setup: &setup, verified: UNVERIFIED, durable }.print(count)?;
        }
    }
    Ok(())
}

async fn store(options: &Options, statement: &str, connections: usize) -> Result<Count> {
    connect(options).await?.batch_execute(TABLES).await?;
    let mut prepared = Vec::with_capacity(connections);
    for _ in 0..connections {
        let client = connect(options).await?;
        let statement = client.prepare(statement).await?;
        prepared.push((client, statement));
    }
    let clock = Clock::start(&options.servers)?;
    let until = Instant::now() + options.window;
    let tasks = prepared.iter().enumerate().map(|(connection, (client, statement))| async move {
        let mut stored = 0;
        while Instant::now() < until {
            let voucher = Voucher::unsigned(connection, stored);
            let cumulative = i64::try_from(voucher.cumulative)?;
            let rows = client.execute(statement, &[&voucher.channel.as_slice(), &cumulative, &voucher.signature.as_slice()]).await?;
            ensure!(rows == 1, "a payment changed {rows} rows");
            stored += 1;
        }
        anyhow::Ok(stored)
    });
    let stored = try_join_all(tasks).await?.into_iter().sum::<usize>();
    // The connections are still open here: their servers' time is read before they end.
    clock.stop(u64::try_from(stored)?)
}

async fn connect(options: &Options) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(options.socket()?).user("postgres").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.context("cannot reach PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// As the server says it, after checking that it syncs before it answers.
async fn version(client: &Client) -> Result<String> {
    let setting = async |name: &str| -> Result<String> { Ok(client.query_one(&format!("SHOW {name}"), &[]).await?.try_get(0)?) };
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        ensure!(setting(name).await? == "on", "PostgreSQL runs without {name}");
    }
    let version = setting("server_version").await?;
    Ok(version.split(' ').next().unwrap_or(&version).to_owned())
}
