//! Carries out what the engine says there is to claim, to sweep and to send.
