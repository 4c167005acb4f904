-- The tasks by their state and, of those given up, the reason.
SELECT
    state,
    CASE WHEN state = 'dead_lettered' THEN COALESCE(reason, '$not_stated') END AS reason,
    COUNT(*) AS n_tasks,
    COALESCE(SUM(n_attempts), 0) AS n_attempts,
    COALESCE(SUM(n_duplicates), 0) AS n_duplicates,
    SUM(CASE WHEN n_redrives > 0 THEN 1 ELSE 0 END) AS n_redriven
FROM tasks
GROUP BY state, CASE WHEN state = 'dead_lettered' THEN COALESCE(reason, '$not_stated') END
