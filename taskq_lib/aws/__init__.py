"""Everything that speaks to AWS, one noun a file; all of it takes its clients from a `Target`."""
