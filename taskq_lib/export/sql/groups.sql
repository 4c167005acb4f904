-- The groups of the tasks in the order of their values, what states none last: their tasks, and the final ones of them.
SELECT
    COALESCE(CAST($key AS VARCHAR), '$not_stated') AS label,
    COUNT(*) AS n,
    SUM(CASE WHEN state IN ('completed', 'dead_lettered') THEN 1 ELSE 0 END) AS n_final,
    SUM(CASE WHEN state = 'dead_lettered' THEN 1 ELSE 0 END) AS n_dead_lettered
FROM tasks
GROUP BY COALESCE(CAST($key AS VARCHAR), '$not_stated')
ORDER BY MIN($key) NULLS LAST
