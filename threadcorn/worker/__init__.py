"""The worker: one process that serves its shard with a pool of threads. See docs/architecture.md."""
