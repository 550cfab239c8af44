"""Print twice the context length of a model, given as a local folder or hub id."""

import sys

from longrope.evaluation.scoring.model import read_config

try:
    print(2 * read_config(sys.argv[1]).get_text_config().max_position_embeddings)
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
