//! Answers the gateway from the durable engine and the chain.
