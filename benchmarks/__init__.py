"""Every speed that is claimed, measured against a peer in one run: `make bench`, or `python -m benchmarks NAME`."""
