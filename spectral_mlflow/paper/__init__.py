"""Documents in which every number comes from the tracking store."""
