"""A Strands agent that is killed anywhere finishes the same run, on any worker."""
