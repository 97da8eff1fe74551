"""Move a Harbor in: what it has on record is written here, and its blobs stay where they are or are copied.

    Harbor's PostgreSQL ──► a step for each kind of row, in batches along Harbor's ids
    Harbor's blobs     ──►   manifests are read, verified and parsed, as if they were pushed
                              │
                              └─► one transaction for each batch: our rows, and in ``moved`` Harbor's rows as they were

The next run compares ``moved`` with Harbor. It writes rows that are new or have changed, and removes those that are
gone. So a run that was killed is resumed by the same command, and a run without changes writes nothing. Until
the move is declared final, nothing in Harbor's store is removed, and Harbor can still be used.
"""
