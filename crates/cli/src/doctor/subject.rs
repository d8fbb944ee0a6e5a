//! What is examined: the part of a node's or a gateway's configuration that the checks need.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_node::NodeConfig;
use millstream_types::Address;

use super::Finding;
use crate::gateway::Settings;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Node,
    Gateway,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
        }
    }
}

/// An address that will be listened on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    /// The key that names it.
    pub(super) key: &'static str,
    pub(super) address: SocketAddr,
    pub(super) is_udp: bool,
}

/// What is examined.
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) config: PathBuf,
    pub(super) rpc_url: String,
    pub(super) chain_id: Option<u64>,
    pub(super) ledger: Option<Address>,
    /// The token that a gateway is paid in.
    pub(super) asset: Option<Address>,
    pub(super) key_file: PathBuf,
    pub(super) password_file: Option<PathBuf>,
    pub(super) data_dir: PathBuf,
    pub(super) listeners: Vec<Listener>,
    pub(super) admin_listen: SocketAddr,
    /// A certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    /// TCP connections that are let in.
    pub(super) sockets_max: u64,
}

impl Subject {
    /// Reads a configuration, whosever it is.
    pub(super) fn read(config: &Path) -> Result<Self, Finding> {
        let wrong = |found: String| {
            let show = format!("millstream config show --config {}", config.display());
            Finding::fault("config", found, "correct the file where the message says, then look at what it comes to", show)
        };
        let text = std::fs::read_to_string(config).map_err(|error| {
            let init = format!("millstream init node --directory {}", config.parent().unwrap_or(Path::new(".")).display());
            Finding::fault("config", format!("cannot read {}: {error}", config.display()), "name the file that there is, or make one", init)
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string().trim().to_owned()))?;
        if Settings::is_gateways(&table) {
            Self::of_gateway(config).map_err(wrong)
        } else {
            let read = NodeConfig::load(config).map_err(|error| wrong(format!("{error:#}").trim().to_owned()))?;
            Ok(Self::of_node(config, read))
        }
    }

    fn of_node(config: &Path, read: NodeConfig) -> Self {
        let NodeConfig { server, chain, .. } = read;
        let listen = server.listen.map(|address| Listener { key: "server.listen", address, is_udp: true });
        let admin = Listener { key: "server.admin_listen", address: server.admin_listen, is_udp: false };
        Self {
            kind: Kind::Node,
            config: config.to_owned(),
            rpc_url: chain.rpc_url,
            chain_id: Some(chain.chain_id),
            ledger: chain.ledger,
            asset: None,
            key_file: chain.operator_key_file,
            password_file: chain.operator_password_file,
            data_dir: server.data_dir,
            listeners: listen.into_iter().chain([admin]).collect(),
            admin_listen: server.admin_listen,
            certificate: server.certificate.zip(server.private_key),
            // QUIC's connections share one socket.
            sockets_max: 0,
        }
    }

    fn of_gateway(config: &Path) -> Result<Self, String> {
        let settings = Settings::of_file(config).map_err(|error| error.message)?;
        let needs = |error: crate::error::CliError| error.message;
        let admin_listen = settings.admin_listen().map_err(needs)?;
        let public = settings.text("server", "listen").map_or_else(|| Ok(Settings::public_listen()), str::parse);
        let public = public.map_err(|_| "server.listen is no address and port".to_owned())?;
        let listeners = [
            Some(Listener { key: "server.listen", address: public, is_udp: false }),
            Some(Listener { key: "node.admin_listen", address: admin_listen, is_udp: false }),
            settings.node.listen.map(|address| Listener { key: "node.listen", address, is_udp: true }),
        ];
        let asset = settings.text("payment", "asset").map(str::parse).transpose();
        settings.check().map_err(needs)?;
        Ok(Self {
            kind: Kind::Gateway,
            config: config.to_owned(),
            rpc_url: settings.rpc_url().map_err(needs)?.to_owned(),
            chain_id: settings.named_chain().map_err(needs)?,
            ledger: settings.chain.ledger,
            asset: asset.map_err(|_| "payment.asset is no address: 0x and 40 hexadecimal digits".to_owned())?,
            key_file: settings.key_file().map_err(needs)?.to_owned(),
            password_file: settings.chain.operator_password_file.clone(),
            data_dir: settings.data_dir().map_err(needs)?.to_owned(),
            listeners: listeners.into_iter().flatten().collect(),
            admin_listen,
            certificate: settings.node.certificate.clone().zip(settings.node.private_key.clone()),
            sockets_max: settings.connections_max(),
        })
    }
}
