//! From store to tables and pages whose every number names its runs.
