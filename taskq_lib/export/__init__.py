"""Exports of the status table (`ExportTableToPointInTime`): millions of tasks, read out of core with DuckDB.

`manifest` says which files there are and that each is whole, `convert` makes them into Parquet with the columns of the
kit's frames, `summaries` gives the analysis's tables of those without loading them. The queries are in `sql/`, in what
DuckDB and Athena have in common; `queries` has what they have not.
"""
