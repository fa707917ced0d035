"""What the longer commands of ``python -m training_assets`` do, one module each."""
