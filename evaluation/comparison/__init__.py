"""Methods side by side: cells that resume, results with provenance, sweeps, and paired tests."""
