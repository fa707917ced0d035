"""The end of a sweep: its best trials judged once more, the winner registered, the report.

Everything here may be killed and asked again: what was launched and has ended well is kept, and not launched again.
"""
