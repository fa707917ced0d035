"""Policies of a run, each in a file of its own; ``loop.Callback`` has the points where the loop calls them."""
