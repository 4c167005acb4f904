-- For each group, duration and share that is asked for the two order statistics that its percentile lies between, in ms.
-- Exact, by counting how often each duration occurs: Athena's own percentile is an approximation, DuckDB's needs all
-- values in memory.
WITH measured AS (
    SELECT
        COALESCE(CAST($key AS VARCHAR), '$not_stated') AS label,
        first_started_ms - enqueued_ms AS queue_wait_ms,
        finished_ms - last_started_ms AS processing_ms,
        finished_ms - enqueued_ms AS end_to_end_ms
    FROM tasks
    WHERE state IN ('completed', 'dead_lettered')
), spans AS (
    SELECT label, 'queue_wait_s' AS duration, queue_wait_ms AS ms FROM measured
    UNION ALL SELECT label, 'processing_s', processing_ms FROM measured
    UNION ALL SELECT label, 'retry_delay_s', end_to_end_ms - queue_wait_ms - processing_ms FROM measured
    UNION ALL SELECT label, 'end_to_end_s', end_to_end_ms FROM measured
), counted AS (
    SELECT label, duration, ms, COUNT(*) AS n FROM spans WHERE ms IS NOT NULL GROUP BY label, duration, ms
), ranked AS (
    SELECT
        label,
        duration,
        ms,
        n,
        SUM(n) OVER (PARTITION BY label, duration ORDER BY ms) AS n_to_here,
        CAST(SUM(n) OVER (PARTITION BY label, duration) AS DOUBLE) AS n_all
    FROM counted
)
SELECT
    label,
    duration,
    share,
    SUM(n) AS n,
    SUM(CASE WHEN ms < 0 THEN n ELSE 0 END) AS n_negative,
    MAX(ms) AS max_ms,
    MIN(CASE WHEN n_to_here > FLOOR((n_all - 1) * share) THEN ms END) AS below_ms,
    MIN(CASE WHEN n_to_here > CEIL((n_all - 1) * share) THEN ms END) AS above_ms
FROM ranked CROSS JOIN (VALUES $shares) AS asked (share)
GROUP BY label, duration, share
