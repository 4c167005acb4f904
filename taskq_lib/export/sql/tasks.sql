-- One row a task of an export, as `frames.TASK_COLUMNS` has them; times are whole Unix milliseconds.
SELECT
    Item.taskId.S AS task_id,
    Item.runId.S AS run_id,
    Item.taskType.S AS task_type,
    CAST(Item.priority.N AS TINYINT) AS priority,
    Item.messageGroup.S AS message_group,
    CASE
        WHEN Item.status.S IS NULL THEN 'pending'
        WHEN Item.status.S = 'COMPLETED' THEN 'completed'
        WHEN Item.status.S = 'PROCESSING' THEN 'processing'
        WHEN Item.deadLettered.BOOL THEN 'dead_lettered'
        ELSE 'retrying'
    END AS state,
    CAST(Item.attempts.N AS INTEGER) AS n_attempts,
    CAST(Item.duplicates.N AS INTEGER) AS n_duplicates,
    COALESCE(CAST(Item.redrives.N AS INTEGER), 0) AS n_redrives,
    Item.reason.S AS reason,
    Item.errorType.S AS error_type,
    Item.error.S AS error,
    Item.result.S AS result,
    CAST(CAST(Item.enqueuedAt.N AS DOUBLE) * 1000 AS BIGINT) AS enqueued_ms,
    CAST(CAST(Item.sentAt.N AS DOUBLE) * 1000 AS BIGINT) AS sent_ms,
    -- The log begins with the first attempt unless that one was lost, or the log was cut.
    CAST(CAST(
        CASE
            WHEN CARDINALITY(Item.attemptLog.L) = 20 AND CAST(Item.attempts.N AS INTEGER) <> 20 THEN Item.startedAt.N
            ELSE COALESCE(ELEMENT_AT(Item.attemptLog.L, 1).M.started.N, Item.startedAt.N)
        END AS DOUBLE) * 1000 AS BIGINT) AS first_started_ms,
    CAST(CAST(
        COALESCE(
            ELEMENT_AT(FILTER(Item.attemptLog.L, $one one.M.started.N IS NOT NULL), -1).M.started.N,
            Item.startedAt.N
        ) AS DOUBLE) * 1000 AS BIGINT) AS last_started_ms,
    CAST(CAST(Item.finishedAt.N AS DOUBLE) * 1000 AS BIGINT) AS finished_ms,
    CAST(CAST(Item.timestamp.N AS DOUBLE) * 1000 AS BIGINT) AS updated_ms,
    CAST(CAST(Item.leaseUntil.N AS DOUBLE) * 1000 AS BIGINT) AS lease_until_ms
FROM export
-- The table holds the circuit breakers as well.
WHERE Item.taskId.S NOT LIKE '#breaker:%'
