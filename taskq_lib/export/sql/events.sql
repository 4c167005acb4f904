-- One row an event with a known time: what `throughput` counts in each interval.
WITH lives AS (
    SELECT
        state,
        state IN ('completed', 'dead_lettered') AS is_final,
        sent_ms,
        COALESCE(enqueued_ms, sent_ms) AS entered_ms,
        CASE WHEN state IN ('completed', 'dead_lettered') THEN COALESCE(finished_ms, updated_ms) END AS gone_ms
    FROM tasks
), events AS (
    SELECT 'sent' AS event, sent_ms AS ms FROM lives
    UNION ALL SELECT 'finished', finished_ms FROM attempts
    UNION ALL SELECT 'completed', gone_ms FROM lives WHERE state = 'completed'
    -- A final task that lacks one of the two times is kept out of the backlog.
    UNION ALL SELECT 'entered', entered_ms FROM lives WHERE gone_ms IS NOT NULL OR NOT is_final
    -- Skewed clocks must not make a backlog negative.
    UNION ALL SELECT 'left', CASE WHEN gone_ms > entered_ms THEN gone_ms ELSE entered_ms END FROM lives
        WHERE gone_ms IS NOT NULL AND entered_ms IS NOT NULL
)
SELECT event, ms FROM events WHERE ms IS NOT NULL
