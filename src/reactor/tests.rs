//! Real-socket hazards.
