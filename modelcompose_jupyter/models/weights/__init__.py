"""Where a model comes from: found, downloaded, checked, and loaded into memory."""
