"""From a trained network to files for runtimes, each checked on decoded joints before it is kept."""
