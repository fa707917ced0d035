"""How each command of ``python -m training_assets`` is asked for: arguments, help, examples, exit codes.

Light: help imports nothing of what a command needs. What a command does is in ``training_assets/commands``.
A new command is a :class:`~trainer.terminal.commands.Command` in a module here, and its place in ``program.GROUPS``.
"""
