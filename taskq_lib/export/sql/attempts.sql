-- One row an attempt, as `frames.ATTEMPT_COLUMNS` has them; times are whole Unix milliseconds. `entries` has a row an
-- entry of an attempt log: Item, entry, i (its place, from 1).
WITH numbered AS (
    SELECT
        Item,
        entry,
        i,
        COALESCE(CAST(entry.redrive.N AS INTEGER), 0) AS redrive,
        COALESCE(CAST(Item.redrives.N AS INTEGER), 0) AS last_redrive,
        -- A running attempt is counted and not logged yet; final items have logged every one.
        CAST(Item.attempts.N AS INTEGER) - CASE WHEN Item.status.S = 'PROCESSING' THEN 1 ELSE 0 END AS n_ended
    FROM entries
), counted AS (
    SELECT
        *,
        CARDINALITY(FILTER(
            Item.attemptLog.L, $one COALESCE(CAST(one.M.redrive.N AS INTEGER), 0) < redrive)) AS n_before,
        CARDINALITY(FILTER(
            Item.attemptLog.L, $one COALESCE(CAST(one.M.redrive.N AS INTEGER), 0) = redrive)) AS n_logged
    FROM numbered
)
SELECT
    Item.taskId.S AS task_id,
    Item.runId.S AS run_id,
    Item.taskType.S AS task_type,
    CAST(Item.priority.N AS TINYINT) AS priority,
    redrive,
    -- A log that was cut keeps its last entries, so those since the last redrive count back from the item's count.
    CAST(
        i - n_before + CASE WHEN redrive = last_redrive THEN GREATEST(0, n_ended - n_logged) ELSE 0 END AS INTEGER
    ) AS attempt,
    CAST(CAST(entry.received.N AS DOUBLE) * 1000 AS BIGINT) AS received_ms,
    CAST(CAST(entry.started.N AS DOUBLE) * 1000 AS BIGINT) AS started_ms,
    CAST(CAST(entry.finished.N AS DOUBLE) * 1000 AS BIGINT) AS finished_ms,
    entry.outcome.S AS outcome,
    -- One that vanished left no error; it gets the one that the last of them is dead-lettered with.
    CASE WHEN entry.outcome.S = 'lost' AND entry.errorType.S IS NULL THEN '$lost_type' ELSE entry.errorType.S END
        AS error_type,
    CASE WHEN entry.outcome.S = 'lost' AND entry.error.S IS NULL THEN '$lost_error' ELSE entry.error.S END AS error,
    entry.requestId.S AS request_id,
    COALESCE(entry.coldStart.BOOL, FALSE) AS cold_start
FROM counted
