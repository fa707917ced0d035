"""What a running training does, told while it runs: figures to Amazon CloudWatch, and limits that end it.

Nothing here is needed for a training to run, and nothing here can fail it but a limit that it has passed.
"""

from training_assets.observability.cloudwatch import CloudWatchMetrics, Labels, SweepLabels
from training_assets.observability.observer import Observer, observer_of
from training_assets.observability.watchdogs import Trip

__all__ = ["CloudWatchMetrics", "Labels", "Observer", "SweepLabels", "Trip", "observer_of"]
