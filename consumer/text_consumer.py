"""Save each word, or each whole text, as a file.

    python consumer/text_consumer.py [OPTIONS]
    python -m product_consumer collect texts [OPTIONS]

Both are the same program.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from product_consumer.runtime.early_exit import guard_start

if __name__ == "__main__":
    guard_start()  # before the slow imports, so that a stop meanwhile is clean, too

from product_consumer.cli.streams import collect_texts, run_script

if __name__ == "__main__":
    run_script(collect_texts)
