//! Reads the channels of escrow contracts into the engine.
