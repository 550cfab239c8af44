"""RULER (arXiv 2404.06654): thirteen synthetic tasks, generated for any tokenizer at any length."""
