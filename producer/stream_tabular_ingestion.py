"""Send rows of a CSV file as records.

    python producer/stream_tabular_ingestion.py [OPTIONS]
    python -m product_consumer produce tabular [OPTIONS]

Both are the same program.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from product_consumer.runtime.early_exit import guard_start

if __name__ == "__main__":
    guard_start()  # before the slow imports, so that a stop meanwhile is clean, too

from product_consumer.cli.streams import produce_tabular, run_script

if __name__ == "__main__":
    run_script(produce_tabular)
