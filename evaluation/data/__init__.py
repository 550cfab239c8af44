"""The text that models are measured on: corpora, tokenized documents, their windows, and haystacks."""
