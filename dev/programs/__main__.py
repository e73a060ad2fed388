"""Get every program that the servers need: `python -m dev.programs`."""

from dev.programs import dapr, debian


def main() -> None:
    """Find, install or build them, and name each."""
    debian.install()
    dapr.install()


if __name__ == "__main__":
    main()
