//! The way to the node: one connection that is made again when it breaks, and a stream on it for each channel.

mod connection;
mod session;

pub(crate) use connection::{Connector, keep};
pub(crate) use session::run;
