"""What runs in a script's pod: `python -m catchment.site.pods.inside FOLDER`.

The folder is shared with the agent: `launch.json` comes from it, `output.log` and at the end `outcome.json`
go to it. The script runs under a keeper as it would beside the agent, so limits and endings are the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from catchment.site.home import write_durably
from catchment.site.launch import Running
from catchment.site.launch_file import Launch
from catchment.stopping import on_stop_signals

LAUNCH, LOG, OUTCOME = "launch.json", "output.log", "outcome.json"


def main(folder: Path) -> None:
    """Run the script to its end, and write down how it was."""
    words = json.loads((folder / LAUNCH).read_bytes())
    launch = Launch.from_json(json.dumps(words["launch"]).encode())
    running = Running(launch, folder / LOG, int(words["log_bytes"]))
    on_stop_signals(lambda: running.stop(launch.grace_s))
    try:
        running.start_cold()
    finally:
        running.begun()
    outcome = running.wait()
    write_durably(folder / OUTCOME, json.dumps(asdict(outcome)).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
