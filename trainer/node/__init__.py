"""One node of an attempt: what every launcher starts on every host, ``python -m trainer node``."""
