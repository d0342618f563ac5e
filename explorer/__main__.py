"""`python -m explorer`: the same as the console script."""

from explorer.cli import main

main()
