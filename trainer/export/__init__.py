"""A checkpoint becomes files that run without this project.

One small file a format behind the protocol in ``base.py``; ``export.py`` writes, compares and measures them all.
"""
