"""Metrics as the official protocols define them: one file a protocol, each from what every sample adds to it."""
