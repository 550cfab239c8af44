"""What an extended model is measured by: perplexities, retrieval, RULER, LongBench and lm-eval's tasks."""
