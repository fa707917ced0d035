"""The Dagster side: the asset graph, its launchers and its stores. Imports from ``trainer`` its contract only."""
