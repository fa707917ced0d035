"""Nodes as pods of an Indexed Job in Kubernetes."""
