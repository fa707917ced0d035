"""How commands are asked for and how they answer, for both packages: parser, help, JSON, progress, colours, completion.

Standard library alone, and of the trainer its contract; rich is imported where a bar is drawn, shtab where a script for
a shell is made. Nothing here decides what a command does.
"""
