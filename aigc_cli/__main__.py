"""`python -m aigc_cli`, which is also how the launcher starts its workers."""

from aigc_cli.cli import main

main()
