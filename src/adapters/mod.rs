//! HOW: the real effects. Adapters know the domain and the ports, never each other.

pub mod ledger;
