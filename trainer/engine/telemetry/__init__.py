"""What a run measures of itself: the journal, the node's sampler, the device's clock and the arithmetic of FLOPs."""
