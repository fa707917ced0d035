"""Where things are kept: records, dataset versions, registered models."""
