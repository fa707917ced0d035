"""How each command of ``python -m trainer`` is asked for: its arguments, its help, its examples, its exit codes.

Light: help imports nothing of what a command needs. A new command is a
:class:`~trainer.terminal.commands.Command` in a module here, and its place in ``program.PROGRAM``.
"""
