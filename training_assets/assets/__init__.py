"""The assets, by what they make. Each module builds its definitions in one function."""

import warnings

import dagster as dg

# Observable sources, backfill policies and partitioned checks are beta or preview; requirements.lock pins Dagster.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
