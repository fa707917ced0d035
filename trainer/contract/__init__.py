"""What both sides agree on: files, fields, names and the errors for breaking them.

Imported by ``trainer`` and by ``training_assets``; imports neither torch nor Dagster.
"""
