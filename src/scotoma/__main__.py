"""`python -m scotoma` is the command line."""

from scotoma.cli import main

main()
