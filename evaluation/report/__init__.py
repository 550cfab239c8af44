"""Reports: the numbers of each figure first, then the drawing, and tables in text."""
