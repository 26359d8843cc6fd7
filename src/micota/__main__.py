"""`python -m micota` is the `micota` command."""

from micota.cli.main import main

if __name__ == "__main__":
    main()
