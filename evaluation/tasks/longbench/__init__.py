"""LongBench (arXiv 2308.14508) and LongBench v2 (arXiv 2412.15204) on data in their official format."""
