"""What a search minimises: losses of many candidates on one window."""
