"""What the longer commands of ``python -m trainer`` do, one module each."""
