"""An exhaustive check of the journal's own code over every interleaving of its store calls, for small bounds."""
