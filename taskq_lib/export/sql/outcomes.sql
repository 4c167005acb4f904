-- The ended attempts by their number and outcome.
SELECT attempt, outcome, COUNT(*) AS n
FROM attempts
WHERE outcome IS NOT NULL
GROUP BY attempt, outcome
ORDER BY attempt, outcome
