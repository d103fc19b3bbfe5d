"""`python -m proxy.cli` is `understudy`."""

from proxy.cli import main

main()
