"""`python -m lowland` is the command `lowland`."""

from ._command import main

if __name__ == "__main__":
    main()
