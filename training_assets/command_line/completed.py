"""What a shell completes an argument of ours with, by its metavar; looked up then, as names come and go."""

from pathlib import Path

from trainer.terminal.completion import Names

# Not that of training_assets.profiles, which takes its time to import.
REPOSITORY = Path(__file__).resolve().parents[2]

COMPLETED = {
    "RECIPE": Names(REPOSITORY / "recipes", "*.yaml", "TRAINING_ASSETS_RECIPES"),
    "SWEEP": Names(REPOSITORY / "var" / "store", "*", "TRAINING_ASSETS_STORE", below="sweeps/"),
    "PROFILE": Names(REPOSITORY / "training_assets" / "profiles", "*.yaml"),
}
