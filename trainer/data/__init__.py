"""Manifest rows become shards, shards become batches."""
