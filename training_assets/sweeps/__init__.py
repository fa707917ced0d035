"""Sweeps: what is searched (``sweep_file``, ``space``), how (``search/``, ``stopping/``), and what came of it.

Nothing here knows Dagster: the graph, the command line and a simulator drive the same search over the same storage.
"""
