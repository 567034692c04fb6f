"""Many slides, unattended: discovery, the thread pipeline, and the run itself."""
