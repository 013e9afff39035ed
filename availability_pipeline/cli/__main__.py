"""`python -m availability_pipeline.cli`, where the programs are not on the PATH."""

from availability_pipeline.cli.main import main

main()
