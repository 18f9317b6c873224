//! Postgres rows, content-addressed blobs, the lease queue and the built-in cluster.
