"""One small class for each group of routes; `Client` holds one object of each."""
