"""Cross-validation: several trainings of one recipe, each an ordinary ``trainer train`` in a process of its own."""
