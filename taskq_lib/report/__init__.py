"""Runs and their reports: strict parameters, the run's folder, papermill, HTML."""
