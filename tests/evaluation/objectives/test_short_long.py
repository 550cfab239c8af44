import numpy as np

from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evaluation.objectives.short_long import ShortLongObjective
from longrope.rope import RescaleFactors, install


def test_short_windows_follow_the_long_ones_of_the_same_documents(llama, random_data):
    candidates = [RescaleFactors(np.linspace(1, 1 + c, 8), 32, 64, 10000.0, 16) for c in range(2)]
    with install(llama) as installation:
        long, short = (PerplexityObjective(llama, installation, random_data.documents, n, 2, 2) for n in (48, 32))
        both = ShortLongObjective(long, short)
        for window in range(8):
            assert both.score(candidates, window) == long.score(candidates, window)
            assert both.score(candidates, 8 + window) == short.score(candidates, window)
        assert [score.tokens for score in both.score(candidates, 9)] == [31, 31]
