"""The report's figures as SVG that takes its colours from the page, so that they are read in light and in dark."""
