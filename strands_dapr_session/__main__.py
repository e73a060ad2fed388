"""``python -m strands_dapr_session``."""

from strands_dapr_session.cli import run

if __name__ == "__main__":
    run()
