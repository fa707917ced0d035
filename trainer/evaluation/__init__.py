"""What a model scores: on whole splits, on slices, and as files in standard formats."""
