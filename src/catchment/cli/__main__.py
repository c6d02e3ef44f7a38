"""`python -m catchment.cli`: the `catchment` command for a process that knows its interpreter only."""

from catchment.cli.main import main

if __name__ == "__main__":
    main()
