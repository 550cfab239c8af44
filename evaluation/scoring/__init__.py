"""How a model reads tokens and is scored: loading, chunked loss, generation, batching, intervals, memory and cost."""
