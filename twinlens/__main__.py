"""`python -m twinlens`: the command `twinlens`, where scripts are not on the path."""

from twinlens.cli.main import run

if __name__ == "__main__":
    run()
