"""The embedded engine: an AWS for this machine alone, started, found and stopped by `engine`."""
