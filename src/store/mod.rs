//! The SQLite file: every transition in one transaction.
