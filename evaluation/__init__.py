"""HOW GOOD a method is: documents, losses, pass keys, and the comparison of every method under one protocol."""
