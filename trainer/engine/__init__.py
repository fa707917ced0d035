"""The training run: the loop (order of things), the step (maths), the checkpointer (files), callbacks (policy)."""
