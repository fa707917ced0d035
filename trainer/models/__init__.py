"""The network: backbone, neck, and one head for each task."""
