"""`python -m featherpose` is the command `featherpose`."""

from featherpose.cli import main

if __name__ == "__main__":
    main()
