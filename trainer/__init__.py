"""The training host's side: manifest rows become shards, batches, losses, checkpoints, reports and exports.

Runs under ``torchrun``; never imports Dagster, boto3 or ``training_assets``.
"""
