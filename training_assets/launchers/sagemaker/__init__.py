"""Nodes as instances of a SageMaker training job."""
