"""Nodes as tasks on EC2 instances of a cluster in ECS."""
