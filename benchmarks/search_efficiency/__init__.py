"""What a search costs and brings, beside baselines, the paper's algorithm and plain chance, on equal terms.

    python -m benchmarks.search_efficiency run --models embedded=MODEL:SEARCH:EVAL --journal runs/efficiency.jsonl
    python -m benchmarks.search_efficiency report --journals runs/efficiency.jsonl --report FOLDER/search_efficiency

Every run is one row of `rows.py` on one model, at one extension ratio, from one seed. All are judged on the same
documents, which no search saw, in float32; the loss of each document is kept. Cost is counted in scored tokens: a token
through a forward pass is 1, through a backward pass 2 more. Runs go to a queue, most wanted first, which several
processes work off; a finished one is a line of the journal and is not run again. What a report lacks it names.
"""
